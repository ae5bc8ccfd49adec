# The machine image: Amazon Linux 2023 at a pinned release, the roles of ansible/, nothing else. Read top to bottom.
#
#   packer init packer && packer build -var … packer      one image for each processor, in one region
#   make ami                                              the same, tested, copied to all regions, published: docs/machine-image.md

packer {
  required_version = ">= 1.11.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "~> 1.1"
    }
  }
}

# --- what is pinned: pins.auto.pkrvars.json, written by `make ami-pin` ---

variable "releasever" {
  type        = string
  description = "The release of Amazon Linux 2023 that every package comes from, like 2023.12.20260930."
}

variable "revision" {
  type        = number
  description = "Counts our own images of one releasever, from 1."
}

variable "kernel" {
  type        = string
  description = "The kernel line, named because Amazon's default moves: 6.1, 6.12 or 6.18."
}

variable "source_ami_name" {
  type        = map(string)
  description = "For each processor the exact name of Amazon's image, as its SSM parameter led to it."
}

# --- what a maintainer may choose ---

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Where the image is built."
}

variable "instance_type" {
  type        = map(string)
  default     = { x86_64 = "m6i.large", arm64 = "m6g.large" }
  description = "What it is built on."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "The subnet to build in; empty: one of the default VPC."
}

variable "ssh_cidrs" {
  type        = list(string)
  default     = []
  description = "Who may reach the building machine by ssh; empty: only the address that Packer runs at."
}

variable "session_manager_profile" {
  type        = string
  default     = ""
  description = "An instance profile with AmazonSSMManagedInstanceCore: ssh then goes through Session Manager, no port is open."
}

variable "encrypted" {
  type        = bool
  default     = false
  description = "Encrypt the image. It can then not be public; with AWS's own key it can not be shared either."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "The key to encrypt with: an alias that exists in every region; empty: AWS's own key."
}

variable "volume_size" {
  type        = number
  default     = 50
  description = "The root disk in GB; a run may ask for more, never for less."
}

variable "wheel" {
  type        = string
  description = "Our own package as a wheel: the agent that goes on the image."
}

variable "ssh_folder" {
  type        = string
  description = "A new folder for Ansible's and ssh's own files, to be removed after the build; a short path, for its sockets."
}

variable "nextflow_image" {
  type        = string
  default     = ""
  description = "The container image that runs ask for; empty: none is on the image."
}

variable "nextflow_context" {
  type        = string
  default     = "containers/nextflow"
  description = "What that image is built from, on the machine itself; empty: it is pulled."
}

variable "studio_images" {
  type        = list(string)
  default     = []
  description = "Container images of Studio templates to have on the image, so that such a Studio starts at once."
}

variable "role_variables" {
  type        = map(string)
  default     = {}
  description = "More variables of the roles in ansible/ that are strings, numbers or true and false, like gpu_enabled."
}

variable "git_commit" {
  type        = string
  default     = "unknown"
  description = "The commit that the roles come from; for the image's tags."
}

variable "builder" {
  type        = string
  default     = "unknown"
  description = "Versions of the programs that build; for the image's tags."
}

variable "output" {
  type        = string
  default     = "build/ami"
  description = "The folder for the manifest and the package lists; from the folder that Packer runs in."
}

variable "suite" {
  type        = string
  default     = "tests/machine/image"
  description = "The tests that the machine must pass before it becomes an image."
}

variable "ansible_playbook" {
  type        = string
  default     = ".venv/bin/ansible-playbook"
  description = "Ansible, at the version of requirements.lock."
}

locals {
  release          = "${var.releasever}-${var.revision}"
  nextflow_context = var.nextflow_context == "" ? "" : abspath(var.nextflow_context)
  session_manager  = var.session_manager_profile != ""
  # A machine's host key is learnt once, and for this build only: addresses come back as other machines. Nothing of the
  # person's own ssh takes part: no settings, no agent, no known hosts.
  ssh_folder = { for arch, name in var.source_ami_name : arch => "${var.ssh_folder}/${arch}" }
  ssh_options = { for arch, folder in local.ssh_folder : arch => join(" -o ", [
    "-F none", "IdentityAgent=none", "IdentitiesOnly=yes",
    "StrictHostKeyChecking=accept-new", "UserKnownHostsFile=${folder}/known_hosts", "GlobalKnownHostsFile=/dev/null",
    "ControlMaster=auto", "ControlPersist=60s",
  ]) }
  ansible_environment = { for arch, folder in local.ssh_folder : arch => [
    "ANSIBLE_CONFIG=ansible/ansible.cfg",
    "ANSIBLE_HOME=${folder}",
    "ANSIBLE_SSH_ARGS=${local.ssh_options[arch]}",
  ] }
  role_variables = merge({
    base_releasever  = var.releasever
    base_kernel      = var.kernel
    run_agent_wheel  = abspath(var.wheel)
    nextflow_image   = var.nextflow_image
    nextflow_context = local.nextflow_context
    studio_images    = var.studio_images
  }, var.role_variables)
  tags = {
    "Name"                    = "solorun-${local.release}"
    "solorun:release"         = local.release
    "solorun:releasever"      = var.releasever
    "solorun:kernel"          = var.kernel
    "solorun:source-ami"      = "{{ .SourceAMI }}"
    "solorun:source-ami-name" = "{{ .SourceAMIName }}"
    "solorun:git-commit"      = var.git_commit
    "solorun:builder"         = var.builder
    "solorun:packer"          = packer.version
  }
}

# --- where it starts: Amazon's image, by its exact name and its owner's account ---

data "amazon-ami" "x86_64" {
  region      = var.region
  owners      = ["137112412989"]
  filters     = { name = var.source_ami_name["x86_64"], architecture = "x86_64", state = "available" }
  most_recent = true
  # Amazon deprecates a release after 90 days; rebuilding an old pin must still work.
  include_deprecated = true
}

data "amazon-ami" "arm64" {
  region             = var.region
  owners             = ["137112412989"]
  filters            = { name = var.source_ami_name["arm64"], architecture = "arm64", state = "available" }
  most_recent        = true
  include_deprecated = true
}

# --- the machine that it is built on, and the image that is made of it ---

source "amazon-ebs" "solorun" {
  region    = var.region
  subnet_id = var.subnet_id

  # Reached by ssh with a key of this one build, from here only, or through Session Manager.
  communicator                              = "ssh"
  ssh_username                              = "ec2-user"
  ssh_timeout                               = "10m"
  ssh_disable_agent_forwarding              = true
  ssh_interface                             = local.session_manager ? "session_manager" : "public_ip"
  iam_instance_profile                      = var.session_manager_profile
  associate_public_ip_address               = true
  temporary_key_pair_type                   = "ed25519"
  temporary_security_group_source_cidrs     = var.ssh_cidrs
  temporary_security_group_source_public_ip = length(var.ssh_cidrs) == 0 && var.session_manager_profile == ""
  shutdown_behavior                         = "terminate"

  # Where nobody is left to end the machine, it ends itself. A unit in memory: the image has nothing of it.
  user_data = <<-EOT
    #!/bin/sh
    exec systemd-run --unit=building-cap --on-active=3h systemctl poweroff --force --force
  EOT

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = 3000
    throughput            = 125
    encrypted             = var.encrypted
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  ami_description         = "solorun ${local.release}: runs one Nextflow pipeline, Amazon Linux ${var.releasever}"
  ami_virtualization_type = "hvm"
  ena_support             = true
  # Machines started from it are offered no metadata without a token, whatever their starter forgets to ask for.
  imds_support = "v2.0"
  # A net for an image that is forgotten; the release sets the date that counts.
  deprecate_at      = timeadd(timestamp(), "8760h")
  tags              = local.tags
  snapshot_tags     = local.tags
  run_tags          = merge(local.tags, { "Name" = "solorun-${local.release} being built" })
  run_volume_tags   = { "Name" = "solorun-${local.release} being built" }
  skip_ami_run_tags = true

  # The default of 30 minutes is too short for a large snapshot on a slow day.
  aws_polling {
    delay_seconds = 15
    max_attempts  = 360
  }
}

build {
  name = "solorun"

  source "amazon-ebs.solorun" {
    name          = "x86_64"
    ami_name      = "solorun-${local.release}-x86_64"
    source_ami    = data.amazon-ami.x86_64.id
    instance_type = var.instance_type["x86_64"]
  }

  source "amazon-ebs.solorun" {
    name          = "arm64"
    ami_name      = "solorun-${local.release}-arm64"
    source_ami    = data.amazon-ami.arm64.id
    instance_type = var.instance_type["arm64"]
  }

  # Amazon's own first boot must be over: it still holds the package manager's lock.
  provisioner "shell" {
    inline = ["sudo cloud-init status --wait > /dev/null || test $? -eq 2"]
  }

  # Everything but the last role.
  provisioner "ansible" {
    command       = var.ansible_playbook
    playbook_file = "ansible/image.yml"
    user          = "ec2-user"
    use_proxy     = false
    extra_arguments = [
      "--extra-vars", jsonencode(local.role_variables),
    ]
    ansible_env_vars = local.ansible_environment[source.name]
  }

  # The tests that a booted machine must pass, and the list of what is on it.
  provisioner "ansible" {
    command       = var.ansible_playbook
    playbook_file = "packer/prove.yml"
    user          = "ec2-user"
    use_proxy     = false
    extra_arguments = [
      "--extra-vars", jsonencode({
        solorun_arch        = source.name
        solorun_output      = var.output
        solorun_suite       = var.suite
        solorun_ssh_options = "${local.ssh_options[source.name]} -o ControlPath=${local.ssh_folder[source.name]}/%C"
      }),
    ]
    ansible_env_vars = local.ansible_environment[source.name]
  }

  # Last: nothing of this machine stays in the image. The role asserts that itself, as nobody can log in after it.
  provisioner "ansible" {
    command       = var.ansible_playbook
    playbook_file = "packer/seal.yml"
    user          = "ec2-user"
    use_proxy     = false
    extra_arguments = [
      "--extra-vars", jsonencode({ sysprep_through_ssm = local.session_manager }),
    ]
    ansible_env_vars = local.ansible_environment[source.name]
  }

  post-processor "manifest" {
    output = "${var.output}/manifest.json"
    custom_data = {
      release    = local.release
      releasever = var.releasever
      git_commit = var.git_commit
    }
  }
}

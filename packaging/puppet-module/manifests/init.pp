# @summary Installs and configures puppet-shim, and sends the agent through it
#
# What is not set is not written, so that it has puppet-shim's own default; `idle_exit` has that of the packaged file. What
# each setting means stands in puppet-shim's README under "Settings". Ranges of durations and sizes are not in the types:
# `puppet-shim check` knows them, and the file is only replaced when that is content.
#
# @param ensure
#   `absent` takes away all of it: first the agent's settings, then the service, the configuration and the package. `server`
#   in puppet.conf stays.
# @param listen
#   `listen`: where the agent finds puppet-shim. It is written for systemd too. Without it, `mode` decides.
# @param allow_remote_clients
#   `allow_remote_clients`: whether a listener may be elsewhere than on loopback
# @param domain
#   `domain`: of short names and of SRV records
# @param certname
#   `certname`: the agent's, the key of `balance = "hash"`. `$trusted['certname']` is what to give it.
# @param foreign
#   `foreign`: what becomes of names that are not Puppet's
# @param idle_exit
#   `idle_exit`: for how long nobody has connected when it leaves, for systemd to start it again; `0s`: it stays
# @param roles
#   The `[role.NAME]` tables
# @param timeouts
#   The `[timeouts]` table
# @param limits
#   The `[limits]` table
# @param dns
#   The `[dns]` table
# @param certificates
#   The `[certificates]` table
# @param status
#   The `[status]` table. With a `group`, the service is of that group, by a drop-in, unless `manage_service` is off; otherwise
#   it could not give its socket to it.
# @param config_file
#   The configuration file. One elsewhere is for a daemon that is told so, by `--config`; its directory has to be there.
# @param binary
#   The program that checks the file before it is put in place
# @param manage_package
#   Whether the package is managed
# @param package_name
#   Its name
# @param package_ensure
#   Its state or version. A `package_source` that changes is an upgrade with `latest`; dpkg knows no version here.
# @param package_source
#   A package file on the agent's host, for a site without a repository that has it
# @param package_provider
#   The package provider. With a `package_source`, dpkg on the Debian family is the default, since apt takes no file.
# @param manage_service
#   Whether systemd's units are managed: the socket enabled and started, the service told of changes
# @param mode
#   The way in, for `manage_puppet_conf`, `manage_hosts`, and the default of `listen`
# @param agent_names
#   The names and ports by which agents ask for the roles. `alias` and `port` need `server`.
# @param manage_puppet_conf
#   Whether the settings of `mode` are written into puppet.conf, section `main`. Leave it where another module owns that file,
#   and give that one what `puppet_shim::agent_settings` returns.
# @param manage_hosts
#   Whether, with `alias` and `port`, the names are put into the hosts file. It takes the `host` type, which the packages of
#   Puppet and OpenVox bring; with Debian's it is in puppet-module-puppetlabs-host-core.
# @param puppet_command
#   The `puppet` that changes puppet.conf. Without it, the agent's own is found.
# @param puppet_confdir
#   The directory of puppet.conf. Without it, the agent's default.
#
# @example Proxy mode on a site with SRV records
#   class { 'puppet_shim':
#     mode               => 'proxy',
#     manage_puppet_conf => true,
#     agent_names        => {
#       'server'    => 'puppet.example.com',
#       'ca_server' => 'puppetca.example.com',
#     },
#   }
#
# @example Roles of one's own
#   class { 'puppet_shim':
#     roles => {
#       'compile' => { 'prefer' => ['*.fra.example.com'] },
#       'report'  => { 'srv' => false, 'servers' => ['reports.example.com:8140'] },
#     },
#   }
class puppet_shim (
  Enum['present', 'absent'] $ensure = 'present',
  Optional[Array[Puppet_shim::Listener, 1]] $listen = undef,
  Optional[Boolean] $allow_remote_clients = undef,
  Optional[Puppet_shim::Name] $domain = undef,
  Optional[Puppet_shim::Certname] $certname = undef,
  Optional[Puppet_shim::Foreign] $foreign = undef,
  Puppet_shim::Duration $idle_exit = '2min',
  Puppet_shim::Roles $roles = {},
  Puppet_shim::Timeouts $timeouts = {},
  Puppet_shim::Limits $limits = {},
  Puppet_shim::Dns $dns = {},
  Puppet_shim::Certificates $certificates = {},
  Puppet_shim::Status $status = {},
  Puppet_shim::Path $config_file = '/etc/puppet-shim/puppet-shim.toml',
  Puppet_shim::Path $binary = '/usr/bin/puppet-shim',
  Boolean $manage_package = true,
  String[1] $package_name = 'puppet-shim',
  String[1] $package_ensure = 'installed',
  Optional[Puppet_shim::Path] $package_source = undef,
  Optional[String[1]] $package_provider = undef,
  Boolean $manage_service = true,
  Optional[Puppet_shim::Mode] $mode = undef,
  Puppet_shim::Agent_names $agent_names = {},
  Boolean $manage_puppet_conf = false,
  Boolean $manage_hosts = false,
  Optional[Puppet_shim::Path] $puppet_command = undef,
  Optional[Puppet_shim::Path] $puppet_confdir = undef,
) {
  $listeners = puppet_shim::listeners($mode, $listen, $agent_names)

  contain puppet_shim::install
  contain puppet_shim::config
  contain puppet_shim::service
  contain puppet_shim::agent

  # Arrows that only order: a notice to the service restarts the socket.
  if $ensure == 'present' {
    Class['puppet_shim::install']
    -> Class['puppet_shim::config']
    -> Class['puppet_shim::service']
    -> Class['puppet_shim::agent']
  } else {
    Class['puppet_shim::agent']
    -> Class['puppet_shim::service']
    -> Class['puppet_shim::config']
    -> Class['puppet_shim::install']
  }
}

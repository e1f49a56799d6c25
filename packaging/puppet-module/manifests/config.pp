# @summary The configuration file
#
# @api private
class puppet_shim::config {
  if $puppet_shim::ensure == 'absent' {
    file { $puppet_shim::config_file:
      ensure => absent,
    }
  } else {
    # In the order of the file as packaged.
    $settings = {
      'domain'               => $puppet_shim::domain,
      'certname'             => $puppet_shim::certname,
      'foreign'              => $puppet_shim::foreign,
      'listen'               => $puppet_shim::listeners,
      'allow_remote_clients' => $puppet_shim::allow_remote_clients,
      'idle_exit'            => $puppet_shim::idle_exit,
    }.filter |$key, $value| { $value =~ NotUndef }

    $roles = Hash($puppet_shim::roles.map |$name, $role| { ["role.${name}", $role] })
    $bounds = {
      'timeouts'     => $puppet_shim::timeouts,
      'limits'       => $puppet_shim::limits,
      'dns'          => $puppet_shim::dns,
      'certificates' => $puppet_shim::certificates,
      'status'       => $puppet_shim::status,
    }.filter |$header, $table| { !$table.empty }

    if $puppet_shim::config_file == '/etc/puppet-shim/puppet-shim.toml' {
      file { '/etc/puppet-shim':
        ensure => directory,
        owner  => 'root',
        group  => 'root',
        mode   => '0755',
      }
    }

    # Readable for everybody: the service has a user of its own, which has no name while it does not run.
    file { $puppet_shim::config_file:
      ensure       => file,
      owner        => 'root',
      group        => 'root',
      mode         => '0644',
      content      => epp('puppet_shim/puppet-shim.toml.epp', { 'settings' => $settings, 'tables' => $roles + $bounds }),
      validate_cmd => "${shellquote($puppet_shim::binary)} check --offline --config %",
    }

    if $puppet_shim::manage_service {
      File[$puppet_shim::config_file] ~> Exec['puppet-shim: read the configuration again']
    }
  }
}

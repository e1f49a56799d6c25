# The configuration, as README says that a manifest has it.
file { '/etc/puppet-shim/puppet-shim.toml':
  content      => "idle_exit = \"1s\"\n[timeouts]\npin = \"1min\"\n",
  validate_cmd => '/usr/bin/puppet-shim check --offline --config %',
}
~> exec { '/usr/bin/systemctl reload puppet-shim':
  refreshonly => true,
}

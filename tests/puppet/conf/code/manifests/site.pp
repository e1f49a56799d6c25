# The one manifest of the lab. A scenario names the files it wants in the agent's facts; a run by hand wants none.

# In scenarios/module_applied.py a run has nothing to change, and a message counts as a change.
if $trusted['certname'] != 'module.example.test' {
  notify { "compiled by ${settings::certname}": }
} else {
  class { 'puppet_shim':
    manage_package     => false,
    manage_service     => false,
    config_file        => "${facts['lab_target']}/puppet-shim.toml",
    binary             => $facts['lab_shim'],
    certname           => $trusted['certname'],
    roles              => { 'compile' => { 'srv' => false, 'servers' => ['compile2.example.test:8140'] } },
    timeouts           => { 'pin' => '1min' },
    mode               => 'proxy',
    agent_names        => {
      'server'        => 'puppet.example.test',
      'ca_server'     => 'puppetca.example.test',
      'report_server' => 'puppetreport.example.test',
      'file_server'   => 'puppetfiles.example.test',
    },
    manage_puppet_conf => true,
    puppet_confdir     => $facts['lab_confdir'],
  }
}

"${facts['lab_sources']}".split(',').each |String $source| {
  $name = $source.split('/')[-1]
  file { "${facts['lab_target']}/${name}":
    source => $source,
  }
}

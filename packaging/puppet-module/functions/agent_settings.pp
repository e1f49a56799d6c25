# @summary The settings of puppet.conf, section `main`, that send an agent through puppet-shim
#
# For modules that own puppet.conf, and for a look at what `manage_puppet_conf` would write. Beside what the mode needs,
# only what is named in `agent_names` is set.
#
# @param mode
#   The way in
# @param agent_names
#   The names and ports by which agents ask. `alias` and `port` need `server`.
# @param listen
#   Where puppet-shim listens, if not where it does by default; the first counts, for `proxy`
#
# @return
#   The settings by their names
#
# @example In proxy mode
#   puppet_shim::agent_settings('proxy', { 'ca_server' => 'puppetca.example.com' })
#   # { 'http_proxy_host' => '127.0.0.1', 'http_proxy_port' => 8139, 'ca_server' => 'puppetca.example.com' }
#
# @example With theforeman/puppet, which always sets `server` itself
#   class { 'puppet':
#     agent_server_hostname => 'puppet.example.com',
#     additional_settings   => puppet_shim::agent_settings('proxy', $names) - ['server'],
#   }
function puppet_shim::agent_settings(
  Puppet_shim::Mode $mode,
  Puppet_shim::Agent_names $agent_names = {},
  Optional[Array[Puppet_shim::Listener, 1]] $listen = undef,
) >> Hash[String[1], Variant[String[1], Integer]] {
  if $mode != 'proxy' and $agent_names['server'] =~ Undef {
    fail("puppet_shim: mode ${mode} needs agent_names['server'], the name that leads to loopback")
  }

  if $mode == 'proxy' {
    $listener = $listen ? {
      undef   => '127.0.0.1:8139',
      default => $listen[0],
    }
    $address = $listener.regsubst(/:[0-9]+\z/, '').regsubst(/[\[\]]/, '', 'G')
    $proxy = {
      'http_proxy_host' => $address ? { '0.0.0.0' => '127.0.0.1', '::' => '::1', default => $address },
      'http_proxy_port' => Integer($listener.regsubst(/\A.*:/, ''), 10),
    }
  } else {
    $proxy = {}
  }

  $default_ports = $mode ? {
    'port'  => { 'ca_port' => 8141, 'report_port' => 8142, 'file_port' => 8143 },
    default => {},
  }
  $ports = $default_ports + $agent_names.filter |$name, $value| { $value =~ Integer }

  $file_server = $agent_names['file_server'] ? {
    undef   => $agent_names['server'],
    default => $agent_names['file_server'],
  }
  if $agent_names['file_server'] =~ Undef and $ports['file_port'] =~ Undef {
    $plugins = {}
  } elsif $file_server =~ Undef {
    fail("puppet_shim: agent_names['file_port'] needs agent_names['file_server'] or agent_names['server']")
  } else {
    $authority = $ports['file_port'] ? {
      undef   => $file_server,
      default => "${file_server}:${ports['file_port']}",
    }
    # lint:ignore:puppet_url_without_modules
    $plugins = {
      'pluginsource'     => "puppet://${authority}/plugins",
      'pluginfactsource' => "puppet://${authority}/pluginfacts",
    }
    # lint:endignore
  }

  $names = {
    'server'        => $agent_names['server'],
    'ca_server'     => $agent_names['ca_server'],
    'ca_port'       => $ports['ca_port'],
    'report_server' => $agent_names['report_server'],
    'report_port'   => $ports['report_port'],
  }.filter |$name, $value| { $value =~ NotUndef }

  $names + $plugins + $proxy
}

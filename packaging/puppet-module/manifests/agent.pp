# @summary The agent's way into puppet-shim: puppet.conf, and the hosts file
#
# @api private
class puppet_shim::agent {
  $mode = $puppet_shim::mode
  $present = $puppet_shim::ensure == 'present'

  if $mode =~ NotUndef and $puppet_shim::manage_puppet_conf {
    $packaged = $facts['aio_agent_version'] ? {
      undef   => { 'command' => '/usr/bin/puppet', 'confdir' => '/etc/puppet' },
      default => { 'command' => '/opt/puppetlabs/bin/puppet', 'confdir' => '/etc/puppetlabs/puppet' },
    }
    $command = $puppet_shim::puppet_command ? {
      undef   => $packaged['command'],
      default => $puppet_shim::puppet_command,
    }
    $confdir = $puppet_shim::puppet_confdir ? {
      undef   => $packaged['confdir'],
      default => $puppet_shim::puppet_confdir,
    }
    # Only where it was set: for root, the agent's default is the command's.
    $options = $puppet_shim::puppet_confdir ? {
      undef   => [],
      default => ['--confdir', $confdir],
    }

    $settings = puppet_shim::agent_settings($mode, $puppet_shim::agent_names, $puppet_shim::listeners)

    # Tests for a line of section `main`. Asking `puppet config print` would take a second for each setting in each run.
    $main = shellquote('sed', '-n', '/^[[:space:]]*\[main\]/,/^[[:space:]]*\[/p', "${confdir}/puppet.conf")
    $says = Hash($settings.map |$name, $value| {
        $literal = String($value).regsubst('[.]', '[.]', 'G')
        $pattern = "^[[:blank:]]*${name}[[:blank:]]*=[[:blank:]]*${literal}[[:blank:]]*\$"
        [$name, "${main} | ${shellquote('grep', '-q', $pattern)}"]
    })

    Exec {
      path     => ['/usr/bin', '/bin'],
      provider => shell,
    }

    if $present {
      $settings.each |$name, $value| {
        exec { "puppet config set ${name} ${value}":
          command => shellquote($command, 'config', 'set', $name, String($value), '--section', 'main', $options),
          unless  => $says[$name],
        }
      }

      # The proxy of before would lead to a port on which nobody listens any more. One that is not on this host is the site's.
      if $mode != 'proxy' {
        $ours = '^[[:blank:]]*http_proxy_host[[:blank:]]*=[[:blank:]]*(127[.][0-9.]+|::1)[[:blank:]]*$'
        ['http_proxy_port', 'http_proxy_host'].each |$name| {
          exec { "puppet config delete ${name}":
            command => shellquote($command, 'config', 'delete', $name, '--section', 'main', $options),
            onlyif  => "${main} | ${shellquote('grep', '-qE', $ours)}",
          }
        }
        Exec['puppet config delete http_proxy_port'] -> Exec['puppet config delete http_proxy_host']
      }
    } else {
      # An agent without `server` asks for `puppet`, which on this site may be nobody.
      ($settings - ['server']).each |$name, $value| {
        exec { "puppet config delete ${name}":
          command => shellquote($command, 'config', 'delete', $name, '--section', 'main', $options),
          onlyif  => $says[$name],
        }
      }
    }
  }

  if $mode in ['alias', 'port'] and $puppet_shim::manage_hosts {
    $server = $puppet_shim::agent_names['server']
    if $server =~ Undef {
      fail("puppet_shim: mode ${mode} needs agent_names['server'], the name that leads to loopback")
    }
    $names = $puppet_shim::agent_names.filter |$key, $value| { $value =~ String }

    host { $server:
      ensure       => $puppet_shim::ensure,
      ip           => '127.0.0.1',
      host_aliases => $names.values.unique - [$server],
    }
  }
}

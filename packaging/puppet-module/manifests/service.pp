# @summary systemd's units
#
# The socket holds the ports and stays up; the service comes when somebody connects, and leaves when nobody does. So only the
# socket is enabled and started here, and of the service only a process that runs is told anything.
#
# @api private
class puppet_shim::service {
  if $puppet_shim::manage_service {
    $present = $puppet_shim::ensure == 'present'
    $listens = $present and $puppet_shim::listeners =~ NotUndef
    $group = $puppet_shim::status['group']
    $joins = $present and $group =~ NotUndef
    $socket_d = '/etc/systemd/system/puppet-shim.socket.d'
    $service_d = '/etc/systemd/system/puppet-shim.service.d'

    Exec {
      path => ['/usr/bin', '/bin'],
    }
    File {
      owner => 'root',
      group => 'root',
      mode  => '0644',
    }

    exec { 'puppet-shim: systemctl daemon-reload':
      command     => 'systemctl daemon-reload',
      refreshonly => true,
    }

    file { "${socket_d}/listen.conf":
      ensure  => if $listens { file } else { absent },
      content => if $listens { epp('puppet_shim/listen.conf.epp', { 'listeners' => $puppet_shim::listeners }) },
      notify  => Exec['puppet-shim: systemctl daemon-reload'],
    }

    file { "${service_d}/group.conf":
      ensure  => if $joins { file } else { absent },
      content => if $joins { epp('puppet_shim/group.conf.epp', { 'group' => $group }) },
      notify  => Exec['puppet-shim: systemctl daemon-reload'],
    }

    if $present {
      file { [$socket_d, $service_d]:
        ensure => directory,
        mode   => '0755',
      }

      # The packaged service is PartOf= the socket, so it is one transaction for both: systemd refuses to start a socket while its
      # service runs, and the socket would be dead.
      exec { 'puppet-shim: listen anew':
        command     => 'systemctl try-restart puppet-shim.socket',
        refreshonly => true,
        subscribe   => File["${socket_d}/listen.conf"],
        require     => Exec['puppet-shim: systemctl daemon-reload'],
      }

      # `start`: for a host on which the service runs and the socket does not, for the same reason. `restart`: a notice is not to
      # stop the socket.
      -> service { 'puppet-shim.socket':
        ensure  => running,
        enable  => true,
        start   => '/bin/systemctl restart puppet-shim.socket',
        restart => '/bin/systemctl try-reload-or-restart puppet-shim.service',
      }

      # A process has the groups it was started with. Its tunnels are left to the next one, as in any restart.
      -> exec { 'puppet-shim: be of another group':
        command     => 'systemctl try-restart puppet-shim.service',
        refreshonly => true,
        subscribe   => File["${service_d}/group.conf"],
        require     => Exec['puppet-shim: systemctl daemon-reload'],
      }

      -> exec { 'puppet-shim: read the configuration again':
        command     => 'systemctl try-reload-or-restart puppet-shim.service',
        refreshonly => true,
      }
    } else {
      service { ['puppet-shim.socket', 'puppet-shim.service']:
        ensure => stopped,
        enable => false,
        before => File["${socket_d}/listen.conf", "${service_d}/group.conf"],
      }

      # Whatever else is in them is somebody else's.
      $drop_ins = { $socket_d => 'listen.conf', $service_d => 'group.conf' }
      $drop_ins.each |$directory, $drop_in| {
        exec { "rmdir ${directory}":
          provider => shell,
          onlyif   => "test -d ${directory} && test -z \"\$(ls -A ${directory})\"",
          require  => File["${directory}/${drop_in}"],
        }
      }
    }
  }
}

# The package and its service, as a site has them, in front of everything else.
exec { 'apt-get update':
  command => '/usr/bin/apt-get --quiet update',
}
-> package { 'puppet-shim':
  ensure => latest,
}
~> service { 'puppet-shim':
  ensure => running,
}

['one', 'two', 'three'].each |String $name| {
  file { "/srv/${name}":
    source  => 'puppet:///lab/whoami',
    require => Service['puppet-shim'],
  }
}

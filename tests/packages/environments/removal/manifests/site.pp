# What a site writes to be rid of puppet-shim, as the module's README says.
class { 'puppet_shim':
  ensure             => absent,
  mode               => 'proxy',
  manage_puppet_conf => true,
}

# @summary The package
#
# @api private
class puppet_shim::install {
  if $puppet_shim::manage_package {
    # Debian keeps the configuration of a package that is only removed.
    $ensure = [$puppet_shim::ensure, $facts['os']['family']] ? {
      ['absent', 'Debian'] => 'purged',
      ['absent', default]  => 'absent',
      default              => $puppet_shim::package_ensure,
    }
    $provider = [$puppet_shim::package_provider, $puppet_shim::package_source, $facts['os']['family']] ? {
      [undef, NotUndef, 'Debian'] => 'dpkg',
      default                     => $puppet_shim::package_provider,
    }

    package { $puppet_shim::package_name:
      ensure   => $ensure,
      source   => $puppet_shim::package_source,
      provider => $provider,
    }
  }
}

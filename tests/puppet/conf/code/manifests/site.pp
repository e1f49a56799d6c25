# The one manifest of the lab. A scenario names the files it wants in the agent's facts; a run by hand wants none.

notify { "compiled by ${settings::certname}": }

"${facts['lab_sources']}".split(',').each |String $source| {
  $name = $source.split('/')[-1]
  file { "${facts['lab_target']}/${name}":
    source => $source,
  }
}

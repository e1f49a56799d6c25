# @summary Where puppet-shim listens in a mode
#
# @param mode
#   The way in
# @param listen
#   What `listen` says; it goes before what the mode needs
# @param agent_names
#   The ports by which agents ask, for `port`
#
# @return
#   The listeners, `undef` where puppet-shim's own default does
#
# @api private
function puppet_shim::listeners(
  Optional[Puppet_shim::Mode] $mode,
  Optional[Array[Puppet_shim::Listener]] $listen,
  Puppet_shim::Agent_names $agent_names,
) >> Optional[Array[Puppet_shim::Listener]] {
  if $listen =~ NotUndef {
    $listen
  } else {
    case $mode {
      'alias': { ['127.0.0.1:8140', '[::1]:8140'] }
      'port': {
        $defaults = { 'ca_port' => 8141, 'report_port' => 8142, 'file_port' => 8143 }
        $ports = $defaults + $agent_names.filter |$name, $value| { $value =~ Integer }
        ['127.0.0.1:8140'] + $ports.values.unique.map |$port| { "127.0.0.1:${port}" }
      }
      default: { undef }
    }
  }
}

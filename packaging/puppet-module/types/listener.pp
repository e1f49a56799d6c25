# @summary An address and port to listen on: `127.0.0.1:8139` or `[::1]:8139`
type Puppet_shim::Listener = Pattern[
  /\A([0-9]{1,3}\.){3}[0-9]{1,3}:[0-9]{1,5}\z/,
  /\A\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}\z/
]

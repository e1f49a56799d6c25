# @summary An IPv4 or IPv6 address, the latter in brackets or without
type Puppet_shim::Address = Pattern[/\A([0-9]{1,3}\.){3}[0-9]{1,3}\z/, /\A[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\z/, /\A\[[0-9A-Fa-f:.]+\]\z/]

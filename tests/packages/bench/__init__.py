"""The parts of the bench, one noun a file.

built       the packages under test
image       a Debian as debootstrap makes it, kept from one run to the next
machine     that Debian, booted
network     where the machine is, and where its servers are
server      what is behind the shim: not Puppet's, but it answers
site        where what is behind it is Puppet's: the lab's servers
agent       Debian's agent in the machine, for these
module      the Puppet module, applied in the machine
repository  a repository for apt, in the machine
tunnel      a connection through the shim
streams     bytes through many of these at once
execution   when a program of the machine's begins
scenario    a scenario's file, and the bench as it sees it

Processes, waiting and verdicts are the lab's, see tests/puppet/lab.
"""

"""The parts of the lab, one noun a file.

plan        hosts and addresses
packages    what is installed from Debian
process     children, and waiting on conditions
namespace   a network namespace
netns       the hosts: network namespaces on one bridge
dns         knot and its zones
server      puppetservers and the CA
agent       puppet agents
setup       `puppet-shim setup`, and the files that it may change
ways        the three ways an agent's traffic gets into the shim
shim        the program under test
web         an http server that is no Puppet server
accesslog   what the servers wrote down
evidence    what a scenario demands of them
failover    what a fault of a compiler must not do to a run
compare     what a fault costs, with the shim and without
site        all of the above, brought up and taken down
scenario    a scenario's file, and the lab as it sees it
template    the files under conf
"""

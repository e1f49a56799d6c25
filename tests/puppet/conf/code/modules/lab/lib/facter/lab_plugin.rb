# Something for pluginsync to bring.
Facter.add(:lab_plugin) { setcode { 'synced' } }

# Facts are collected between pluginsync and catalog. A scenario that has something to do just there names a directory
# in LAB_PAUSE: the run says by a file that it has come so far, and goes on when there is another one.
Facter.add(:lab_pause) do
  confine { ENV.key?('LAB_PAUSE') }
  setcode do
    pause = ENV.fetch('LAB_PAUSE')
    File.write(File.join(pause, 'reached'), '')
    sleep 0.05 until File.exist?(File.join(pause, 'over'))
    'over'
  end
end

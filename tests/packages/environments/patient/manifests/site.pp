# A catalog that the server has no sooner than somebody makes the file, and meanwhile it says nothing. It gives up before the agent does, after ten minutes.
$nothing = generate('/usr/bin/timeout', '540', '/bin/sh', '-c', 'until [ -e "$0" ]; do sleep 0.2; done', "${settings::vardir}/upgraded")
notify { "compiled by ${settings::certname} after the upgrade": }

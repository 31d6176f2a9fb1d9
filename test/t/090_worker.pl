# The worker synchronises by itself: at once when something is queued, and then on schedule.
use strict;
use warnings;

use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 20, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
smartspace_cobot.worker_linger = 1
CONF

my $space = $t->connect_space('demo-space');
$t->wait_until(sub { $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run') > 0 }, 'the first synchronisation');
is($t->sql('SELECT result, run_by FROM smartspace.cobot_sync_run'), 'ok_with_problems|worker', 'connecting a space synchronises it');
is($t->sql("SELECT smartspace.cobot_request_sync($space)"), 1, 'a synchronisation is queued');
$t->wait_until(sub { $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run') > 1 }, 'the second synchronisation');
note $t->sql('SELECT * FROM smartspace.cobot_sync_task');
note $t->sql(q{SELECT backend_type, application_name, state, query FROM pg_stat_activity WHERE backend_type LIKE 'smart%'});
$t->wait_until(sub { $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'}) == 0 }, 'the worker to leave');
done_testing;

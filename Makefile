# smartspace_cobot: a PostgreSQL extension, built with PGXS.
#
#   make, make install, make installcheck   as every extension
#   make demo                               see it work, on a fresh Debian 12
#   make test                               every test, on a fresh Debian 12
#   make bench                              how fast, as ratios
#   make fuzz                               the parsers, for long (TIME=seconds each)
#   make valgrind                           some of the tests, with the server under valgrind

EXTENSION = smartspace_cobot
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" smartspace_cobot.control)

MODULE_big = smartspace_cobot
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

# The install script is one file per topic, in this order.
SQL_TOPICS = $(addprefix src/sql/,start.sql mirror.sql secret.sql caller.sql access.sql journal.sql grant.sql building.sql mobile_app.sql oauth.sql checkin.sql run.sql worker.sql look.sql explain.sql webhook.sql functions.sql navigation.sql entry.sql login.sql schedule.sql role.sql privileges.sql)
EXTENSION_SCRIPT = $(EXTENSION)--$(EXTVERSION).sql
DATA_built = $(EXTENSION_SCRIPT)

# Install scripts of earlier versions, and scripts from one to the next (doc/upgrade.md). That of
# this version is there too once it is out, and would be installed twice.
DATA = $(filter-out src/sql/released/$(EXTENSION_SCRIPT),$(wildcard src/sql/released/$(EXTENSION)--*.sql src/sql/updates/$(EXTENSION)--*--*.sql))

REGRESS = install grants time journal explain problems privileges
REGRESS_OPTS = --inputdir=. --load-extension=smartspace_cobot
ISOLATION = membership_assignment identifier_field switch_membership group_deletion repeatable_read manual_grant membership_deletion truncate two_syncs assignment_assignment switch_switch entry_entry limit_entry
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=smartspace_cobot
EXTRA_CLEAN = test/unit/unit_*.o

PG_CPPFLAGS = -DSMARTSPACE_COBOT_VERSION='"$(EXTVERSION)"'
PG_CFLAGS = -Wextra -Wno-declaration-after-statement
# The server may have been built by a gcc with options that clang does not know.
ifneq (,$(findstring clang,$(CC)))
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument
endif
SHLIB_LINK = -lcurl -lcjson -lcrypto

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
# As a system directory, so that -Wextra speaks of our code and not of the server's headers.
PG_CPPFLAGS += -isystem $(shell $(PG_CONFIG) --includedir-server)
include $(PGXS)

$(EXTENSION_SCRIPT): $(SQL_TOPICS)
	cat $^ > $@

# A changed header changes the layout that every file relies on.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h) smartspace_cobot.control

.PHONY: demo test bench fuzz valgrind
demo:
	@test/demo/run
test:
	@test/run_tests $(TESTS)
bench:
	@test/bench/run
fuzz:
	@TIME=$(TIME) test/fuzz/run
valgrind:
	@test/valgrind/run $(TESTS)

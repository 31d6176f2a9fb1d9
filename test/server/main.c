/*
 * main.c
 *	  The Cobot test server: acts as www.cobot.me and as the spaces of Cobot, for
 *	  tests, benchmarks and the demo. See README.md.
 *
 * The main thread reads the options, starts everything, and then waits for a
 * signal or for its standard input to end.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "faults.h"
#include "log.h"
#include "rate.h"
#include "server.h"
#include "start.h"

typedef struct Options
{
	StartOptions start;
	int			port;
	int			control_port;
	const char *certificate_file;
	const char *key_file;
	bool		exit_with_stdin;
} Options;

typedef enum OptionCode
{
	OPTION_PORT = 1,
	OPTION_CONTROL_PORT,
	OPTION_CERT,
	OPTION_KEY,
	OPTION_STATE,
	OPTION_SPACES,
	OPTION_MEMBERS,
	OPTION_PLANS,
	OPTION_SEED,
	OPTION_TOKEN,
	OPTION_NO_RATE_LIMIT,
	OPTION_EXIT_WITH_STDIN
} OptionCode;

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPTION_PORT},
	{"control-port", required_argument, NULL, OPTION_CONTROL_PORT},
	{"cert", required_argument, NULL, OPTION_CERT},
	{"key", required_argument, NULL, OPTION_KEY},
	{"state", required_argument, NULL, OPTION_STATE},
	{"spaces", required_argument, NULL, OPTION_SPACES},
	{"members", required_argument, NULL, OPTION_MEMBERS},
	{"plans", required_argument, NULL, OPTION_PLANS},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"token", required_argument, NULL, OPTION_TOKEN},
	{"no-rate-limit", no_argument, NULL, OPTION_NO_RATE_LIMIT},
	{"exit-with-stdin", no_argument, NULL, OPTION_EXIT_WITH_STDIN},
	{NULL, 0, NULL, 0}
};

static void
usage(void)
{
	fputs("usage: cobot_test_server --cert FILE --key FILE [--port N] [--control-port N]\n"
		  "       [--state FILE | --spaces N --members M --plans P --seed S] [--token TOKEN]\n"
		  "       [--no-rate-limit] [--exit-with-stdin]\n", stderr);
	exit(2);
}

static int
number(const char *text, int least, int most)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < least || value > most)
	{
		fprintf(stderr, "cobot_test_server: \"%s\" is not a number from %d to %d\n", text, least, most);
		exit(2);
	}
	return (int) value;
}

static void
take_option(Options *options, int code)
{
	GenerateOptions *generate = &options->start.generate;

	switch (code)
	{
		case OPTION_PORT:
			options->port = number(optarg, 0, 65535);
			break;
		case OPTION_CONTROL_PORT:
			options->control_port = number(optarg, 0, 65535);
			break;
		case OPTION_CERT:
			options->certificate_file = optarg;
			break;
		case OPTION_KEY:
			options->key_file = optarg;
			break;
		case OPTION_STATE:
			options->start.state_file = optarg;
			break;
		case OPTION_SPACES:
			generate->spaces = number(optarg, 1, 1000000);
			break;
		case OPTION_MEMBERS:
			generate->members = number(optarg, 0, 1000000);
			break;
		case OPTION_PLANS:
			generate->plans = number(optarg, 1, 1000);
			break;
		case OPTION_SEED:
			generate->seed = (uint64_t) strtoull(optarg, NULL, 10);
			break;
		case OPTION_TOKEN:
			generate->admin_token = optarg;
			break;
		case OPTION_NO_RATE_LIMIT:
			options->start.rate_limit = false;
			break;
		case OPTION_EXIT_WITH_STDIN:
			options->exit_with_stdin = true;
			break;
		default:
			usage();
	}
}

static Options
read_options(int argc, char **argv)
{
	Options		options = {
		.start = {
			.generate = {.spaces = 1, .members = 90, .plans = 4, .seed = 1},
			.rate_limit = true
		}
	};
	int			code;

	while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(&options, code);
	if (optind < argc || options.certificate_file == NULL || options.key_file == NULL)
		usage();
	if (options.start.state_file == NULL && options.start.generate.admin_token == NULL)
		options.start.generate.admin_token = "admin-token";
	return options;
}

/* A PEM file, which is small. */
static char *
read_pem(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char		text[65536];
	size_t		length;

	if (file == NULL)
	{
		fprintf(stderr, "cobot_test_server: could not read \"%s\": %s\n", path, strerror(errno));
		exit(1);
	}
	length = fread(text, 1, sizeof(text), file);
	fclose(file);
	return text_copy_length(text, length);
}

/* Thousands of connections need as many descriptors. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Blocked in every thread; the main thread reads them from the descriptor. */
static int
catch_signals(void)
{
	sigset_t	signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	sigdelset(&signals, SIGPIPE);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static bool
stdin_ended(void)
{
	char		ignored[256];

	return read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0;
}

static void
wait_for_the_end(int signal_fd, bool exit_with_stdin)
{
	struct pollfd waiting[2] = {
		{.fd = signal_fd, .events = POLLIN},
		{.fd = exit_with_stdin ? STDIN_FILENO : -1, .events = POLLIN}
	};

	for (;;)
	{
		if (poll(waiting, 2, -1) < 0 && errno != EINTR)
			break;
		if (waiting[0].revents != 0)
			break;
		if (waiting[1].revents != 0 && stdin_ended())
			break;
	}
}

static void
free_everything(void)
{
	faults_clear();
	log_clear();
	world_lock();
	rate_clear();
	world_clear();
	start_forget();
	world_unlock();
}

int
main(int argc, char **argv)
{
	Options		options = read_options(argc, argv);
	char	   *certificate = read_pem(options.certificate_file);
	char	   *key = read_pem(options.key_file);
	int			signal_fd = catch_signals();
	bool		started;

	raise_descriptor_limit();
	start_set_options(&options.start);
	if (!start_check())
		return 1;
	world_lock();
	start_world();
	world_unlock();

	started = server_start(options.port, options.control_port, certificate, key);
	if (started)
	{
		printf("ready https=%d control=%d\n", server_port(), server_control_port());
		fflush(stdout);
		wait_for_the_end(signal_fd, options.exit_with_stdin);
	}
	else
		fprintf(stderr, "cobot_test_server: could not listen on ports %d and %d with \"%s\" and \"%s\"\n",
				options.port, options.control_port, options.certificate_file, options.key_file);
	server_stop();
	free_everything();
	free(certificate);
	free(key);
	close(signal_fd);
	return started ? 0 : 1;
}

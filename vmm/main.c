/*
 * mvm's beginning and end. In: argv. Out: the exit status (enum machine_status), and on stderr the
 * one message of what went wrong. A first word that is no option may be a command (command.h).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "devices/backend/chardev.h"
#include "vmm/command.h"
#include "vmm/config.h"
#include "vmm/help.h"
#include "vmm/machine.h"

static int failed(int err, const struct error *e)
{
	fprintf(stderr, "mvm: %s\n", e->msg);
	return err == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
}

/* What was printed must have arrived: `mvm --help=man >file` on a full disk is a failure. */
static int printed(struct error *e)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return STATUS_OK;
	error_set_errno(e, -errno, "cannot write to standard output");
	return failed(-EIO, e);
}

static int run(const struct config *config, int *ended_by, struct error *e)
{
	int status = machine_main(config, ended_by, e);

	if (e->msg[0])
		fprintf(stderr, "mvm: %s\n", e->msg);
	return status;
}

static int act(struct config *config, int *ended_by, struct error *e)
{
	int err;

	switch (config->action) {
	case ACTION_HELP:
		help_print(config->registry, config->topic, stdout);
		return printed(e);
	case ACTION_VERSION:
		help_version(stdout);
		return printed(e);
	case ACTION_LIST_DEVICES:
		help_list_devices(config->registry, stdout);
		return printed(e);
	case ACTION_PRINT_CONFIG:
	case ACTION_RUN:
		break;
	}
	err = config_complete(config, e);
	if (err)
		return failed(err, e);
	if (config->action == ACTION_RUN)
		return run(config, ended_by, e);
	config_print(config, stdout);
	return printed(e);
}

/* Whoever waits for mvm sees the signal, as if nothing had been tidied up first. */
static void die_of(int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	signal(number, SIG_DFL);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL); /* the machine took it through a signalfd */
}

/* A crash of ours; the user gets the terminal back as it was, then the default action. */
static void on_fatal(int number)
{
	sigset_t set;

	chardev_restore_terminal();
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(number);
}

static void catch_fatal_signals(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
	struct sigaction now, ours = { .sa_handler = on_fatal };

	/* A sanitizer that has taken one keeps it: its report is worth more. */
	for (unsigned i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		if (sigaction(fatal[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)
			sigaction(fatal[i], &ours, NULL);
}

static int command(const struct command *c, int argc, char **argv)
{
	struct error e = { .msg = "" };
	int status = command_run(c, argc, argv, stdout, &e);

	if (e.msg[0])
		fprintf(stderr, "mvm: %s\n", e.msg);
	return status == STATUS_OK ? printed(&e) : status;
}

/*
 * Doorbells, connections and images take many, and the usual limit is low for those who use
 * select(), which neither we nor what we start does.
 */
static void more_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct config config;
	struct error e = { .msg = "" };
	int status, err, ended_by = 0;

	chardev_prepare_process();
	catch_fatal_signals();
	more_descriptors();
	if (argc > 1 && command_find(device_commands, argv[1]))
		return command(command_find(device_commands, argv[1]), argc - 1, argv + 1);
	config_init(&config);
	err = config_parse(&config, argc, argv, &e);
	status = err ? failed(err, &e) : act(&config, &ended_by, &e);
	config_free(&config);
	if (ended_by)
		die_of(ended_by);
	return status;
}

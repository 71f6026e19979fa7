/*
 * Giving rights up: see sandbox.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/sandbox.h"

/* Everything that the first version of landlock knows of. */
#define ALL_ACCESS ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

#define ARENAS 8

/* Sanitizers call what they like, at any time, and look for leaks by what /proc says of us. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static void allow_beneath(int rules, const char *directory, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = {
		.allowed_access = access,
		.parent_fd = open(directory, O_PATH | O_CLOEXEC),
	};

	if (beneath.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
}

static void no_files(const char *directory)
{
	struct landlock_ruleset_attr all = { .handled_access_fs = ALL_ACCESS };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	if (rules < 0)
		return;
	if (directory)
		allow_beneath(rules, directory, LANDLOCK_ACCESS_FS_REMOVE_FILE);
#ifdef SANITIZED
	allow_beneath(rules, "/proc", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
#endif
	syscall(SYS_landlock_restrict_self, rules, 0);
	close(rules);
}

void sandbox_isolate(const char *directory)
{
	/* A user namespace gives the right to make the others; root has it without. */
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 &&
	    unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		unshare(CLONE_NEWUSER);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	no_files(directory);
}

static int allow(scmp_filter_ctx filter, const char *name)
{
	int number = seccomp_syscall_resolve_name(name);

	return number == __NR_SCMP_ERROR ? -EINVAL
					 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* Of mmap and mprotect: not with PROT_EXEC. */
static int allow_data(scmp_filter_ctx filter, int number)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1,
				SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* A thread's own policy, as event_loop_took() has it; nobody else's. */
static int allow_own_policy(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp own = SCMP_A0(SCMP_CMP_EQ, 0, 0);
	int err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_getscheduler), 1, own);

	return err ? err
		   : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), 1, own);
}

/* As many as it makes before it asks the kernel for the number of CPUs, which may be no more. */
static void bound_arenas(void)
{
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, ARENAS);
#endif
}

/* Of a thread's memory that it gives back, malloc() first looks into /proc, and can do without. */
static int refuse_files(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
}

int sandbox_filter(const char *const *allowed, struct error *e)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (!filter)
		return error_set(e, -ENOMEM, "out of memory");
	bound_arenas();
	err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = allow_data(filter, SCMP_SYS(mmap));
	if (!err)
		err = allow_data(filter, SCMP_SYS(mprotect));
	if (!err)
		err = allow_own_policy(filter);
	if (!err)
		err = refuse_files(filter);
	for (; !err && *allowed; allowed++)
		err = allow(filter, *allowed);
#ifndef SANITIZED
	if (!err)
		err = seccomp_load(filter);
#endif
	seccomp_release(filter);
	return err ? error_set_errno(e, err, "cannot filter system calls") : 0;
}

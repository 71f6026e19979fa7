/*
 * Both ends of vhost-user for tests: our back end as a process (a fork of the test's, so that it
 * can be killed), and a peer that a test plays itself, message by message.
 */
#ifndef TESTS_UNIT_TEST_VHOST_USER_RIG_H
#define TESTS_UNIT_TEST_VHOST_USER_RIG_H

#include <sys/types.h>

#include "devices/virtio/vhost/user_proto.h"
#include "tests/unit/test_virtio_rig.h"

struct vu_files {
	char dir[32];
	char image[64], sock[64];
};

/* A directory with an image of so many bytes, and a name for a socket. */
struct vu_files vu_files_create(uint64_t size);
void vu_files_destroy(struct vu_files *f);

/* `mvm backend blk --socket=… IMAGE[,keys]`; returns when it listens. */
pid_t vu_backend(const struct vu_files *f, const char *keys);
/* Ends it by a signal; its wait status. */
int vu_backend_end(pid_t pid, int signal);

/* Connects to a back end / is one that listens at f->sock. */
int vu_connect(const struct vu_files *f);
int vu_listen(const struct vu_files *f);

/* As a front end: sends, and takes the answer where there is one or the flag NEED_REPLY is set. */
int vu_call(int sock, struct vhost_user_msg *m);
int vu_call_u64(int sock, uint32_t request, uint64_t *value);
/* With NEED_REPLY. 0: accepted; 1: refused; -1: the connection has gone. */
int vu_ask(int sock, struct vhost_user_msg *m);
int vu_ask_state(int sock, uint32_t request, unsigned index, unsigned num);

#endif

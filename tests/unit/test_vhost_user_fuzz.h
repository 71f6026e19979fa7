/*
 * What a vhost-user peer that breaks the rules makes up: numbers and descriptors, seeded.
 */
#ifndef TESTS_UNIT_TEST_VHOST_USER_FUZZ_H
#define TESTS_UNIT_TEST_VHOST_USER_FUZZ_H

#include "tests/unit/test_vhost_user_rig.h"

#define V1     MODEL_BIT(VIRTIO_F_VERSION_1)
#define RAM    (1u << 20)
#define BIT(n) (1ull << (n))

#define ACK_PROTOCOL (BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_MQ))

struct fuzz {
	uint64_t random;
	int sock, ram;
};

/* Memory to be shared. */
int fuzz_ram(size_t size);
/* Below n. */
uint64_t fuzz_pick(struct fuzz *f, uint64_t n);
/* Often one at which something ends or overflows. */
uint64_t fuzz_value(struct fuzz *f);
/* A file, a socket, a pipe, the memory, an eventfd; the caller closes it. */
int fuzz_fd(struct fuzz *f);

#endif

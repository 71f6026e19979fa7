/*
 * virtio-rng: the host's random numbers. Virtio 1.2 section 5.4. In: chains of writable buffers.
 * Out: bytes of getrandom(2), a bounded number for each request so that a guest cannot keep the
 * loop busy with one; the driver asks again if it wants more.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/virtio/virtio.h"

#define MAX_BYTES 4096u /* of a request */

struct rng {
	struct virtio_device v; /* first */
};

/* Straight into guest memory. How many bytes; once seeded, getrandom(2) does not fail or wait. */
static uint32_t fill(const struct virtq_span *span, struct account *account)
{
	uint32_t filled = 0;

	for (unsigned i = 0; i < span->n && filled < MAX_BYTES; i++) {
		size_t want = span->iov[i].iov_len;
		ssize_t got;

		if (want > MAX_BYTES - filled)
			want = MAX_BYTES - filled;
		do {
			account_add(account, ACCOUNT_SYSCALLS, 1);
			got = getrandom(span->iov[i].iov_base, want, 0);
		} while (got < 0 && errno == EINTR);
		if (got > 0)
			filled += (uint32_t)got;
		if (got < (ssize_t)want)
			break;
	}
	return filled;
}

static void process(struct virtio_queue *q, struct virtq_chain **chains, unsigned n)
{
	bool good = true;

	for (unsigned i = 0; i < n; i++) {
		if (good && chains[i]->writable.len == 0) {
			virtio_queue_break(q, "request with nothing to write to");
			good = false;
		}
		virtio_queue_push(q, chains[i],
				  good ? fill(&chains[i]->writable, q->v->dev.account) : 0);
	}
}

static void destroy(struct virtio_device *v)
{
	free(v); /* first member */
}

static const struct virtio_device_ops rng_ops = { .process = process, .destroy = destroy };

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	const struct virtio_identity identity = { .id = VIRTIO_ID_RNG, .nqueues = 1 };
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct rng *rng = calloc(1, sizeof(*rng));
	int err;

	if (!rng)
		return error_set(e, -ENOMEM, "out of memory");
	err = virtio_device_init(&rng->v, &rng_ops, &identity, host, config, e);
	if (!err)
		err = virtio_queue_init(&rng->v, 0, size, 0, host->loop, e);
	if (!err)
		err = virtio_transport_create(&rng->v, config, e);
	if (err) {
		virtio_device_fini(&rng->v);
		destroy(&rng->v);
		return err;
	}
	*out = &rng->v.dev;
	return 0;
}

static const struct device_key keys[] = {
	VIRTIO_KEYS("8"),
	{ 0 },
};

const struct device_row row_virtio_rng = {
	.class = CLASS_RNG,
	.model = MODEL_VIRTIO,
	.hw = "virtio-rng",
	.preferred = true,
	.summary = "virtio entropy device",
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};

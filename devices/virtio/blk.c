/*
 * virtio-blk: a disk. Virtio 1.2 section 5.2. In: chains of header, data and status byte. Out:
 * requests to a block backend with the data's iovecs as they are, so that bytes go between guest
 * memory and image without a copy of ours. By default each queue is served by an I/O thread.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/block.h"
#include "devices/backend/block_keys.h"
#include "devices/virtio/blk.h"
#include "vmm/trace.h"

/* What one request may ask for, so that draining never takes long. In sectors. */
#define MAX_DISCARD_SECTORS (1u << 21)
#define MAX_ZEROES_SECTORS  (1u << 17)

struct blk_queue {
	struct virtio_queue *vq;
	struct event_loop *loop; /* its own, or NULL: the main loop */
	struct block_queue *backend;
};

struct blk {
	struct virtio_device v; /* first */
	struct block *block;
	char serial[VIRTIO_BLK_ID_BYTES + 1];
	bool writethrough; /* atomic: the guest changes it in configuration space */
	unsigned nqueues;
	struct blk_queue queue[VIRTIO_BLK_MAX_QUEUES];
};

/* The private part of a chain. */
struct blk_request {
	struct block_request block;
	struct virtio_queue *vq;
	struct virtq_chain *chain;
	uint8_t *status; /* where the guest wants it */
	uint32_t written;
};

static struct blk *blk_of(struct virtio_device *v)
{
	return (struct blk *)v; /* first member */
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Answers; written counts the data, 0 if it is not all there. */
static void complete(struct blk_request *r, uint8_t status, uint32_t written)
{
	/* After reset the queue only takes the chain back; the status byte goes nowhere then. */
	if (r->vq->running)
		*r->status = status;
	virtio_queue_push(r->vq, r->chain, written + 1);
}

static void done(struct block_request *block, int result)
{
	struct blk_request *r = (struct blk_request *)block; /* first member */
	uint8_t status = result == 0	      ? VIRTIO_BLK_S_OK
			 : result == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP
					      : VIRTIO_BLK_S_IOERR;

	if (result)
		account_add(r->vq->v->dev.account, ACCOUNT_ERRORS, 1);
	complete(r, status, result == 0 ? r->written : 0);
}

static void submit(struct blk_request *r)
{
	struct blk *blk = blk_of(r->vq->v);

	r->block.done = done;
	trace_detail(blk->v.dev.account, r->chain->taken, block_op_name(r->block.op),
		     r->block.offset, r->block.length);
	block_queue_submit(blk->queue[r->vq->index].backend, &r->block);
}

/* The request's range in bytes; false if it is not whole, or wraps. */
static bool set_range(struct blk_request *r, uint64_t sector, uint64_t bytes)
{
	if (sector > UINT64_MAX / BLOCK_SECTOR || bytes % BLOCK_SECTOR)
		return false;
	r->block.offset = sector * BLOCK_SECTOR;
	r->block.length = bytes;
	return true;
}

static void read_or_write(struct blk_request *r, enum block_op op, uint64_t sector)
{
	struct virtq_span *data = op == BLOCK_READ ? &r->chain->writable : &r->chain->readable;

	if (data->len == 0 || !set_range(r, sector, data->len)) {
		complete(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	r->block.op = op;
	r->block.iov = data->iov;
	r->block.niov = (int)data->n;
	r->block.stable = __atomic_load_n(&blk_of(r->vq->v)->writethrough, __ATOMIC_RELAXED);
	r->written = op == BLOCK_READ ? (uint32_t)data->len : 0;
	submit(r);
}

static void flush(struct blk_request *r)
{
	r->block.op = BLOCK_FLUSH;
	submit(r);
}

/* DISCARD and WRITE_ZEROES: one segment, which is all that max_*_seg allows. */
static void discard_or_zero(struct blk_request *r, enum block_op op, unsigned feature,
			    uint32_t max_sectors)
{
	struct virtio_blk_discard_write_zeroes segment;
	uint32_t sectors, flags;

	if (!virtio_has(r->vq->v, feature)) {
		complete(r, VIRTIO_BLK_S_UNSUPP, 0);
		return;
	}
	if (r->chain->readable.len != sizeof(segment)) {
		complete(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	virtq_span_read(&r->chain->readable, &segment, sizeof(segment));
	sectors = le32toh(segment.num_sectors);
	flags = le32toh(segment.flags);
	/* Section 5.2.6.2: unknown flags, and unmap for a discard, are unsupported. */
	if (flags & ~(op == BLOCK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u)) {
		complete(r, VIRTIO_BLK_S_UNSUPP, 0);
		return;
	}
	if (sectors > max_sectors ||
	    !set_range(r, le64toh(segment.sector), (uint64_t)sectors * BLOCK_SECTOR)) {
		complete(r, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	r->block.op = op;
	r->block.unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	r->block.stable = __atomic_load_n(&blk_of(r->vq->v)->writethrough, __ATOMIC_RELAXED);
	submit(r);
}

/* The string ends with a 0 only if it is shorter than 20 bytes. */
static void get_id(struct blk_request *r)
{
	uint32_t n = (uint32_t)virtq_span_write(&r->chain->writable, blk_of(r->vq->v)->serial,
						VIRTIO_BLK_ID_BYTES);

	complete(r, VIRTIO_BLK_S_OK, n);
}

/* False: the chain is no request at all, and there is nowhere to say so. */
static bool start_request(struct virtio_queue *vq, struct virtq_chain *chain)
{
	struct blk_request *r = virtq_chain_private(chain);
	struct virtio_blk_outhdr header;

	*r = (struct blk_request){ .vq = vq, .chain = chain };
	r->status = virtq_span_cut_last(&chain->writable);
	if (!r->status ||
	    virtq_span_read(&chain->readable, &header, sizeof(header)) < sizeof(header))
		return false;
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		read_or_write(r, BLOCK_READ, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_OUT:
		read_or_write(r, BLOCK_WRITE, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		flush(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		get_id(r);
		break;
	case VIRTIO_BLK_T_DISCARD:
		discard_or_zero(r, BLOCK_DISCARD, VIRTIO_BLK_F_DISCARD, MAX_DISCARD_SECTORS);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		discard_or_zero(r, BLOCK_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES,
				MAX_ZEROES_SECTORS);
		break;
	default:
		complete(r, VIRTIO_BLK_S_UNSUPP, 0);
	}
	return true;
}

static void process(struct virtio_queue *vq, struct virtq_chain **chains, unsigned n)
{
	bool good = true;

	for (unsigned i = 0; i < n; i++) {
		if (good && !start_request(vq, chains[i])) {
			virtio_queue_break(vq, "request without a whole header and a status byte");
			good = false;
		}
		if (!good)
			virtio_queue_push(vq, chains[i], 0); /* to the pool: the queue is broken */
	}
	block_queue_kick(blk_of(vq->v)->queue[vq->index].backend);
	event_loop_took(vq->loop, n);
}

static void idle(struct virtio_queue *vq)
{
	block_queue_kick(blk_of(vq->v)->queue[vq->index].backend);
}

static void drain(struct virtio_queue *vq)
{
	block_queue_drain(blk_of(vq->v)->queue[vq->index].backend);
}

static void completed(void *opaque)
{
	virtio_queue_publish(opaque);
}

/* ---- configuration --------------------------------------------------------------------------- */

static void set_writethrough(struct blk *blk, bool on)
{
	__atomic_store_n(&blk->writethrough, on, __ATOMIC_RELAXED);
}

/* Section 5.2.6.2: a driver that can neither flush nor ask gets a disk that needs no flush. */
static void driver_ok(struct virtio_device *v)
{
	if (!virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE))
		set_writethrough(blk_of(v), !virtio_has(v, VIRTIO_BLK_F_FLUSH));
}

static void config_write(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
	uint8_t wce = value ? 1 : 0;

	if (offset != offsetof(struct virtio_blk_config, wce) || size != 1 || value > 1 ||
	    !virtio_has(v, VIRTIO_BLK_F_CONFIG_WCE)) {
		virtio_misuse(v, "write to a read-only place of configuration space");
		return;
	}
	virtio_config_set(v, offset, &wce, 1);
	set_writethrough(blk_of(v), !wce);
}

static void reset(struct virtio_device *v)
{
	uint8_t wce = 1;

	virtio_config_set(v, offsetof(struct virtio_blk_config, wce), &wce, 1);
	set_writethrough(blk_of(v), false);
}

/*
 * Header and status take a buffer each. A driver falls back to direct descriptors when it finds no
 * memory for an indirect table, so the rest must fit the queue without one.
 */
static uint32_t seg_max(unsigned queue_size)
{
	unsigned buffers = queue_size < VIRTQ_MAX_IOV ? queue_size : VIRTQ_MAX_IOV;

	return buffers > 3 ? buffers - 2 : 1;
}

static void fill_config(struct blk *blk, unsigned queue_size)
{
	const struct block_info *info = block_info(blk->block);
	uint32_t block = info->logical_block / BLOCK_SECTOR;
	struct virtio_blk_config config = {
		.capacity = htole64(info->size / BLOCK_SECTOR),
		.seg_max = htole32(seg_max(queue_size)),
		.blk_size = htole32(info->logical_block),
		.physical_block_exp =
			(uint8_t)__builtin_ctz(info->physical_block / info->logical_block),
		.min_io_size = htole16((uint16_t)(info->physical_block / info->logical_block)),
		.wce = 1,
		.num_queues = htole16((uint16_t)blk->nqueues),
		.max_discard_sectors = htole32(MAX_DISCARD_SECTORS),
		.max_discard_seg = htole32(1),
		.discard_sector_alignment = htole32(block),
		.max_write_zeroes_sectors = htole32(MAX_ZEROES_SECTORS),
		.max_write_zeroes_seg = htole32(1),
		.write_zeroes_may_unmap = 1,
	};

	virtio_config_set(&blk->v, 0, &config, sizeof(config));
}

static uint64_t features(const struct block_info *info, unsigned nqueues)
{
	uint64_t bits = VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) |
			VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) | VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) |
			VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE);

	if (nqueues > 1)
		bits |= VIRTIO_BIT(VIRTIO_BLK_F_MQ);
	if (info->read_only)
		bits |= VIRTIO_BIT(VIRTIO_BLK_F_RO);
	if (info->can_discard)
		bits |= VIRTIO_BIT(VIRTIO_BLK_F_DISCARD);
	if (info->can_write_zeroes)
		bits |= VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	return bits;
}

/* ---- life cycle ------------------------------------------------------------------------------ */

/* Queues and transport are gone, or were never made. */
static void destroy(struct virtio_device *v)
{
	struct blk *blk = blk_of(v);

	for (unsigned i = 0; i < blk->nqueues; i++) {
		block_queue_destroy(blk->queue[i].backend);
		event_loop_destroy(blk->queue[i].loop);
	}
	block_close(blk->block);
	free(blk);
}

static const struct virtio_device_ops blk_ops = {
	.process = process,
	.idle = idle,
	.drain = drain,
	.driver_ok = driver_ok,
	.config_write = config_write,
	.reset = reset,
	.destroy = destroy,
};

static int make_queue(struct blk *blk, unsigned index, const struct device_config *config,
		      struct error *e)
{
	struct virtio_device *v = &blk->v;
	struct blk_queue *q = &blk->queue[index];
	uint16_t size = (uint16_t)device_config_uint(config, "queue-size");
	struct block_queue_config backend = { .depth = size, .completed = completed };
	char name[16];
	int err;

	q->vq = &v->queue[index];
	backend.loop = v->dev.host->loop;
	snprintf(name, sizeof(name), index ? "%.10s.%u" : "%.10s", v->dev.name, index);
	if (device_config_bool(config, "iothread")) {
		q->loop = event_loop_create(name, e);
		if (!q->loop)
			return -ENOMEM;
		backend.loop = q->loop;
		backend.may_wait = true;
	}
	err = virtio_queue_init(v, index, size, sizeof(struct blk_request), backend.loop, e);
	if (err)
		return err;
	backend.lock = &q->vq->lock;
	backend.opaque = q->vq;
	backend.name = v->dev.name;
	backend.account = v->dev.account;
	err = block_queue_create(&q->backend, blk->block, &backend, e);
	if (err)
		return err;
	return q->loop ? event_loop_start(q->loop, e) : 0;
}

static int make_device(struct blk *blk, struct device_host *host,
		       const struct device_config *config, struct error *e)
{
	unsigned nqueues = (unsigned)device_config_uint(config, "queues");
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_BLOCK,
		.features = features(block_info(blk->block), nqueues),
		.nqueues = nqueues,
		.config_len = sizeof(struct virtio_blk_config),
	};
	int err = virtio_device_init(&blk->v, &blk_ops, &identity, host, config, e);

	if (err)
		return err;
	blk->nqueues = nqueues;
	fill_config(blk, (unsigned)device_config_uint(config, "queue-size"));
	for (unsigned i = 0; i < nqueues; i++) {
		err = make_queue(blk, i, config, e);
		if (err)
			return err;
	}
	return virtio_transport_create(&blk->v, config, e);
}

int virtio_blk_create(struct device_host *host, const struct device_config *config,
		      struct block *block, struct device **out, struct error *e)
{
	struct blk *blk = calloc(1, sizeof(*blk));
	int err;

	if (!blk) {
		block_close(block);
		return error_set(e, -ENOMEM, "out of memory");
	}
	blk->block = block;
	err = block_serial_from(config, blk->serial, e);
	if (err) {
		destroy(&blk->v);
		return err;
	}
	err = make_device(blk, host, config, e);
	if (err) {
		virtio_device_fini(&blk->v);
		destroy(&blk->v);
		return err;
	}
	*out = &blk->v.dev;
	return 0;
}

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	const struct block_config backend = block_config_from(config);
	struct block *block;
	int err = block_open(&block, &backend, e);

	return err ? err : virtio_blk_create(host, config, block, out, e);
}

static const struct device_key keys[] = {
	BLOCK_KEYS,
	VIRTIO_BLK_KEYS,
	VIRTIO_KEYS("256"),
	{ 0 },
};

const struct device_row row_virtio_blk = {
	.class = CLASS_BLK,
	.model = MODEL_VIRTIO,
	.hw = "virtio-blk",
	.preferred = true,
	.summary = "virtio block device on a disk image",
	.target = "IMAGE",
	.target_required = true,
	.keys = keys,
	.capabilities = DEVICE_CAN_PAUSE,
	.create = create,
};

/* See test_nvme_rig.h. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_nvme_rig.h"

/* ---- the machine ----------------------------------------------------------------------------- */

static struct nvrig *plug(const char *keys, struct stub_block *stub)
{
	struct nvrig *r = calloc(1, sizeof(*r));
	struct device_config config;
	struct error e = { 0 };
	int fd;

	r->v = vrig_create();
	bus_set_account(r->v->host.mmio, account_machine(r->v->host.accounts), ACCOUNT_MMIO_READS,
			ACCOUNT_MMIO_WRITES);
	r->stub = stub;
	strcpy(r->path, "/tmp/mvm-nvme-XXXXXX");
	fd = mkstemp(r->path);
	cr_assert_eq(ftruncate(fd, NVRIG_SECTORS * 512), 0);
	close(fd);
	vrig_config(&config, &row_nvme, r->path, keys);
	if (stub)
		cr_assert_eq(nvme_create(&r->v->host, &config, &stub->block, &r->v->dev, &e), 0,
			     "%s", e.msg);
	else
		cr_assert_eq(row_nvme.create(&r->v->host, &config, &r->v->dev, &e), 0, "%s", e.msg);
	vrig_config_free(&config);
	r->n = (struct nvme *)r->v->dev;
	r->v->dev->ops->reset(r->v->dev);
	cr_assert_eq(pci_root_assign(r->v->host.pci, &e), 0, "%s", e.msg);
	cr_assert_eq(r->v->dev->ops->start(r->v->dev, &e), 0);
	r->config = VRIG_ECAM + (1 << 15);
	r->bar = vrig_read(r->v, r->config + PCI_BASE_ADDRESS_0, 8) & ~0xfull;
	nvrig_command_register(r, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned cap = (unsigned)vrig_read(r->v, r->config + PCI_CAPABILITY_LIST, 1); cap;
	     cap = (unsigned)vrig_read(r->v, r->config + cap + 1, 1))
		if (vrig_read(r->v, r->config + cap, 1) == PCI_CAP_ID_MSIX)
			r->msix = cap;
	cr_assert(r->msix);
	return r;
}

struct nvrig *nvrig_create(const char *keys)
{
	return plug(keys, NULL);
}

struct nvrig *nvrig_create_stub(const char *keys)
{
	return plug(keys, stub_block_create(NVRIG_SECTORS * 512));
}

void nvrig_destroy(struct nvrig *r)
{
	vrig_destroy(r->v);
	unlink(r->path);
	free(r);
}

uint64_t nvrig_read(struct nvrig *r, unsigned reg, unsigned size)
{
	return vrig_read(r->v, r->bar + reg, size);
}

void nvrig_write(struct nvrig *r, unsigned reg, unsigned size, uint64_t value)
{
	vrig_write(r->v, r->bar + reg, size, value);
}

void nvrig_command_register(struct nvrig *r, uint16_t value)
{
	vrig_write(r->v, r->config + PCI_COMMAND, 2, value);
}

void nvrig_msix_enable(struct nvrig *r)
{
	for (unsigned i = 0; i <= r->n->nqueues; i++) {
		uint64_t entry = r->bar + NVME_MSIX_TABLE + 16 * i;

		vrig_write(r->v, entry, 8, 0xfee00000);
		vrig_write(r->v, entry + 8, 8, 0x40 + i);
	}
	vrig_write(r->v, r->config + r->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

uint8_t *nvrig_at(struct nvrig *r, uint64_t address, uint64_t len)
{
	return model_at(&r->v->memory, address, len);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void queue_init(struct nvrig *r, unsigned id, uint32_t size)
{
	struct nvrig_queue *q = &r->queue[id];

	*q = (struct nvrig_queue){
		.sq = NVRIG_SQ + id * NVRIG_QUEUE,
		.cq = NVRIG_CQ + id * NVRIG_QUEUE,
		.size = size,
		.phase = true,
		.cqid = (uint16_t)id,
	};
	memset(nvrig_at(r, q->cq, NVRIG_QUEUE), 0, NVRIG_QUEUE);
}

void nvrig_enable(struct nvrig *r)
{
	queue_init(r, 0, NVRIG_ENTRIES);
	nvrig_write(r, AQA, 4, (NVRIG_ENTRIES - 1) << 16 | (NVRIG_ENTRIES - 1));
	nvrig_write(r, ASQ, 8, r->queue[0].sq);
	nvrig_write(r, ACQ, 8, r->queue[0].cq);
	nvrig_write(r, CC, 4, NVRIG_CC);
	cr_assert_eq(nvrig_read(r, CSTS, 4), NVME_CSTS_RDY);
}

void nvrig_disable(struct nvrig *r)
{
	nvrig_write(r, CC, 4, NVRIG_CC & ~NVME_CC_EN);
	cr_assert_eq(nvrig_read(r, CSTS, 4), 0);
}

void nvrig_queue(struct nvrig *r, unsigned id, uint32_t size)
{
	struct nvrig_queue *q = &r->queue[id];
	bool msix = pci_msix_enabled(&r->n->f);

	queue_init(r, id, size);
	cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_CQ,
							   .prp1 = q->cq,
							   .cdw10 = (size - 1) << 16 | id,
							   .cdw11 = (msix ? id << 16 : 0) | 3 }),
		     0);
	cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_CREATE_SQ,
							   .prp1 = q->sq,
							   .cdw10 = (size - 1) << 16 | id,
							   .cdw11 = id << 16 | 1 }),
		     0);
}

void nvrig_up(struct nvrig *r)
{
	nvrig_enable(r);
	nvrig_queue(r, 1, NVRIG_ENTRIES);
}

uint16_t nvrig_push(struct nvrig *r, unsigned id, struct nvme_command c)
{
	struct nvrig_queue *q = &r->queue[id];

	c.cid = __atomic_add_fetch(&r->cid, 1,
				   __ATOMIC_RELAXED); /* some tests have several vCPUs */
	memcpy(nvrig_at(r, q->sq + q->tail * sizeof(c), sizeof(c)), &c, sizeof(c));
	q->tail = (q->tail + 1) % q->size;
	return c.cid;
}

/* As Linux does it: the value into memory, the register only if the controller must hear. */
static bool must_ring(struct nvrig *r, unsigned word, uint32_t value)
{
	uint32_t *shadow = (uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 4 * word, 4);
	uint32_t *event = (uint32_t *)(void *)nvrig_at(r, NVRIG_EVENTS + 4 * word, 4);
	uint16_t old = (uint16_t)*shadow, new = (uint16_t)value;

	__atomic_store_n(shadow, value, __ATOMIC_SEQ_CST);
	return (uint16_t)(new - (uint16_t)__atomic_load_n(event, __ATOMIC_SEQ_CST) - 1) <
	       (uint16_t)(new - old);
}

void nvrig_ring(struct nvrig *r, unsigned id)
{
	struct nvrig_queue *q = &r->queue[id];

	if (!q->shadow || must_ring(r, 2 * id, q->tail))
		nvrig_write(r, NVME_DOORBELLS + 8 * id, 4, q->tail);
}

void nvrig_ring_head(struct nvrig *r, unsigned id)
{
	struct nvrig_queue *q = &r->queue[id];

	if (!q->shadow || must_ring(r, 2 * id + 1, q->head))
		nvrig_write(r, NVME_DOORBELLS + 8 * id + 4, 4, q->head);
}

bool nvrig_poll(struct nvrig *r, unsigned id, struct nvme_completion *c)
{
	struct nvrig_queue *q = &r->queue[id];
	struct nvme_completion *e = (struct nvme_completion *)(void *)nvrig_at(
		r, q->cq + q->head * sizeof(*e), sizeof(*e));

	if ((__atomic_load_n(&e->status, __ATOMIC_ACQUIRE) & 1) != q->phase)
		return false;
	*c = *e;
	if (++q->head == q->size) {
		q->head = 0;
		q->phase = !q->phase;
	}
	return true;
}

struct nvme_completion nvrig_wait_quietly(struct nvrig *r, unsigned id)
{
	struct nvme_completion c = { 0 };
	bool got = false;

	for (unsigned i = 0; i < 20000 && !(got = nvrig_poll(r, id, &c)); i++)
		usleep(250);
	cr_assert(got, "queue %u answers nothing", id);
	return c;
}

struct nvme_completion nvrig_wait(struct nvrig *r, unsigned id)
{
	struct nvme_completion c = nvrig_wait_quietly(r, id);

	nvrig_ring_head(r, id);
	return c;
}

uint16_t nvrig_do(struct nvrig *r, unsigned id, struct nvme_command command, uint32_t *result)
{
	uint16_t cid = nvrig_push(r, id, command);
	struct nvme_completion c;

	nvrig_ring(r, id);
	c = nvrig_wait(r, id);
	cr_assert_eq(c.cid, cid);
	cr_assert_eq(c.sqid, id);
	cr_assert_eq(c.sqhd, r->queue[id].tail);
	if (result)
		*result = c.result;
	return c.status >> 1 & ~NVME_SC_MORE;
}

uint16_t nvrig_admin(struct nvrig *r, struct nvme_command c)
{
	return nvrig_do(r, 0, c, NULL);
}

/* ---- commands -------------------------------------------------------------------------------- */

struct nvme_command nvrig_rw(uint8_t opcode, uint64_t slba, uint32_t blocks)
{
	return (struct nvme_command){
		.opcode = opcode,
		.nsid = 1,
		.prp1 = NVRIG_BUFFER,
		.prp2 = NVRIG_BUFFER + NVME_PAGE, /* good for up to two pages */
		.cdw10 = (uint32_t)slba,
		.cdw11 = (uint32_t)(slba >> 32),
		.cdw12 = blocks - 1,
	};
}

struct nvme_command nvrig_pages(struct nvrig *r, uint8_t opcode, uint64_t slba, uint32_t blocks,
				const uint64_t *page, unsigned pages)
{
	struct nvme_command c = nvrig_rw(opcode, slba, blocks);
	uint64_t *list = (uint64_t *)(void *)nvrig_at(r, NVRIG_LISTS, 4 * NVME_PAGE);
	unsigned at = 0;

	c.prp1 = page[0];
	c.prp2 = pages == 2 ? page[1] : NVRIG_LISTS;
	for (unsigned i = 1; i < pages; i++) {
		/* The last of a page of entries is the link to the next, if there is more. */
		if (at % 512 == 511 && i + 1 < pages) {
			list[at] = NVRIG_LISTS + (at + 1) * 8;
			at++;
		}
		list[at++] = page[i];
	}
	return c;
}

void nvrig_fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 13 + (i >> 9) + seed);
}

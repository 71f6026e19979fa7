/*
 * What the accounts of the emulated disks say after known work: doorbells and exits, commands,
 * bytes, interrupts, latencies, and the threads that serve them.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test_ide_rig.h"
#include "tests/unit/test_nvme_rig.h"

/* Of an account, since its last look. */
struct ledger {
	struct account *account;
	struct account_block before, now;
};

static void look(struct ledger *l)
{
	l->before = l->now;
	account_read(l->account, &l->now);
}

static struct ledger open_ledger(struct account *account)
{
	struct ledger l = { .account = account };

	cr_assert_not_null(account);
	look(&l);
	return l;
}

static uint64_t counted(const struct ledger *l, enum account_counter counter)
{
	return l->now.value[counter] - l->before.value[counter];
}

static void expect(const struct ledger *l, enum account_counter counter, uint64_t wanted)
{
	cr_assert_eq(counted(l, counter), wanted, "%s: %llu, not %llu",
		     account_counters[counter].name, (unsigned long long)counted(l, counter),
		     (unsigned long long)wanted);
}

/* Of the requests that ended. */
static uint64_t latencies(const struct ledger *l)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++)
		n += l->now.latency[i] - l->before.latency[i];
	return n;
}

/* Taken when 2^bucket to 2^(bucket + 1) - 1 were in flight, with them. */
static uint64_t at_depth(const struct ledger *l, unsigned bucket)
{
	return l->now.depth[bucket] - l->before.depth[bucket];
}

static bool is_served_by(struct account *account, const char *thread)
{
	struct account_cpu cpu[16];
	uint64_t total;
	unsigned n = account_cpu(account, cpu, 16, &total);
	bool found = false;

	for (unsigned i = 0; i < n; i++)
		found |= strcmp(cpu[i].name, thread) == 0;
	return found;
}

/* ---- NVMe ------------------------------------------------------------------------------------ */

/* Three reads, two writes, a flush, zeroes, and a read that fails: one after another. */
static void eight_commands(struct nvrig *r)
{
	struct nvme_command flush = { .opcode = NVME_FLUSH, .nsid = 1 };

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, i * 8, 8), NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE, i * 16, 16), NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, flush, NULL), 0);
	cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_WRITE_ZEROES, 64, 8), NULL), 0);
	cr_assert_neq(nvrig_do(r, 1, nvrig_rw(NVME_READ, NVRIG_SECTORS, 1), NULL), 0);
}

static void nvme_work(const char *keys, bool by_exit)
{
	struct nvrig *r = nvrig_create(keys);
	struct ledger l = open_ledger(r->n->dev.account);

	nvrig_msix_enable(r);
	nvrig_up(r);
	look(&l);
	eight_commands(r);
	look(&l);
	expect(&l, ACCOUNT_REQUESTS, 8);
	expect(&l, ACCOUNT_BYTES_IN, 3 * 4096);
	expect(&l, ACCOUNT_BYTES_OUT, 2 * 8192);
	expect(&l, ACCOUNT_ERRORS, 1);
	expect(&l, ACCOUNT_KICKS_EXIT, 8);
	expect(&l, ACCOUNT_KICKS, 0);
	expect(&l, ACCOUNT_MMIO_WRITES, 16); /* tails and heads */
	expect(&l, ACCOUNT_MMIO_READS, 0);
	expect(&l, ACCOUNT_IRQS_IOCTL, 8);
	expect(&l, ACCOUNT_IRQS_SUPPRESSED, 0);
	/* Its thread may also find more before it sleeps, or have been woken before. */
	cr_assert(by_exit || counted(&l, ACCOUNT_WAKEUPS) > 0);
	cr_assert_eq(latencies(&l), 8);
	cr_assert_eq(at_depth(&l, 0), 8);
	cr_assert(is_served_by(l.account, "blk0"));
	nvrig_destroy(r);
}

Test(storage_account, nvme, .timeout = 30)
{
	nvme_work("doorbell=exit", true);
	nvme_work("doorbell=ioeventfd", false);
}

/* Four commands, one doorbell: they are in flight together. */
Test(storage_account, nvme_batch, .timeout = 30)
{
	struct nvrig *r = nvrig_create("doorbell=exit");
	struct ledger l = open_ledger(r->n->dev.account);

	nvrig_up(r);
	look(&l);
	for (unsigned i = 0; i < 4; i++)
		nvrig_push(r, 1, nvrig_rw(NVME_READ, 8 * i, 8));
	nvrig_ring(r, 1);
	for (unsigned i = 0; i < 4; i++)
		nvrig_wait_quietly(r, 1);
	look(&l);
	expect(&l, ACCOUNT_REQUESTS, 4);
	expect(&l, ACCOUNT_KICKS_EXIT, 1);
	expect(&l, ACCOUNT_MMIO_WRITES, 1);
	cr_assert_eq(at_depth(&l, 0), 1);
	cr_assert_eq(at_depth(&l, 1), 2);
	cr_assert_eq(at_depth(&l, 2), 1);
	nvrig_destroy(r);
}

/* What KVM does where it has an ioeventfd. */
Test(storage_account, nvme_doorbells_that_do_not_exit, .timeout = 30)
{
	struct nvrig *r = nvrig_create("doorbell=ioeventfd");
	struct ledger l = open_ledger(r->n->dev.account);
	uint32_t *tail = (uint32_t *)(void *)nvrig_at(r, NVRIG_SHADOW + 8, 4);
	uint64_t one = 1;

	nvrig_up(r);
	cr_assert_eq(nvrig_admin(r, (struct nvme_command){ .opcode = NVME_ADMIN_DBBUF_CONFIG,
							   .prp1 = NVRIG_SHADOW,
							   .prp2 = NVRIG_EVENTS }),
		     0);
	look(&l);
	for (uint32_t i = 1; i <= 5; i++) {
		nvrig_push(r, 1, nvrig_rw(NVME_READ, 0, 8));
		__atomic_store_n(tail, i, __ATOMIC_SEQ_CST);
		cr_assert_eq(write(r->n->sq[1].kick.fd, &one, sizeof(one)), sizeof(one));
		nvrig_wait_quietly(r, 1);
	}
	look(&l);
	expect(&l, ACCOUNT_REQUESTS, 5);
	expect(&l, ACCOUNT_KICKS, 5);
	expect(&l, ACCOUNT_KICKS_EXIT, 0);
	expect(&l, ACCOUNT_MMIO_WRITES, 0);
	nvrig_destroy(r);
}

/* A completion queue without interrupts: the driver polls. */
Test(storage_account, nvme_interrupts_not_wanted, .timeout = 30)
{
	struct nvrig *r = nvrig_create("doorbell=exit");
	struct ledger l = open_ledger(r->n->dev.account);
	struct nvme_command delete_sq = { .opcode = NVME_ADMIN_DELETE_SQ, .cdw10 = 1 };
	struct nvme_command delete_cq = { .opcode = NVME_ADMIN_DELETE_CQ, .cdw10 = 1 };
	struct nvme_command create_cq = { .opcode = NVME_ADMIN_CREATE_CQ,
					  .prp1 = NVRIG_CQ + NVRIG_QUEUE,
					  .cdw10 = (NVRIG_ENTRIES - 1) << 16 | 1,
					  .cdw11 = 1 };
	struct nvme_command create_sq = { .opcode = NVME_ADMIN_CREATE_SQ,
					  .prp1 = NVRIG_SQ + NVRIG_QUEUE,
					  .cdw10 = (NVRIG_ENTRIES - 1) << 16 | 1,
					  .cdw11 = 1 << 16 | 1 };

	nvrig_msix_enable(r);
	nvrig_up(r);
	cr_assert_eq(nvrig_admin(r, delete_sq), 0);
	cr_assert_eq(nvrig_admin(r, delete_cq), 0);
	cr_assert_eq(nvrig_admin(r, create_cq), 0);
	cr_assert_eq(nvrig_admin(r, create_sq), 0);
	look(&l);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(nvrig_do(r, 1, nvrig_rw(NVME_READ, 0, 8), NULL), 0);
	look(&l);
	expect(&l, ACCOUNT_IRQS_IOCTL, 0);
	expect(&l, ACCOUNT_IRQS_SUPPRESSED, 3);
	nvrig_destroy(r);
}

/* ---- IDE ------------------------------------------------------------------------------------- */

static const uint8_t zeroes[4096];

static uint64_t pio_exits(const struct ledger *l)
{
	return counted(l, ACCOUNT_PIO_READS) + counted(l, ACCOUNT_PIO_WRITES);
}

Test(storage_account, ide_data_port, .timeout = 30)
{
	struct irig *r = irig_create(1, "");
	struct ledger l = open_ledger(r->disk[0]->account);
	uint8_t sector[512];

	irig_mode(r, true);
	irig_select(r, 0, 0);
	look(&l);
	irig_issue(r, ATA_READ_SECTORS, 0, 2);
	for (unsigned i = 0; i < 2; i++) {
		irig_wait(r);
		irig_in(r, STATUS);
		irig_take(r, sector, 512);
	}
	irig_issue(r, ATA_WRITE_SECTORS, 0, 1);
	irig_give(r, zeroes, 512);
	irig_wait(r);
	irig_in(r, STATUS);
	irig_issue(r, ATA_READ_SECTORS, IRIG_SECTORS, 1); /* is not there */
	irig_in(r, STATUS);
	look(&l);
	expect(&l, ACCOUNT_REQUESTS, 3);
	expect(&l, ACCOUNT_KICKS_EXIT, 3);
	expect(&l, ACCOUNT_BYTES_IN, 1024);
	expect(&l, ACCOUNT_BYTES_OUT, 512);
	cr_assert_geq(counted(&l, ACCOUNT_COPIED), 1536);
	expect(&l, ACCOUNT_ERRORS, 1);
	/* Two sectors read, the write's end, the error. */
	expect(&l, ACCOUNT_IRQS_LINE, 4);
	expect(&l, ACCOUNT_PIO_WRITES, 3 * 6 + 256);
	cr_assert_geq(counted(&l, ACCOUNT_PIO_READS), 512 + 4);
	cr_assert_eq(latencies(&l), 3);
	cr_assert_eq(at_depth(&l, 0), 3);
	cr_assert(is_served_by(l.account, "blk0"));
	/* With nIEN the driver polls. */
	irig_out(r, CONTROL, ATA_NIEN);
	cr_assert_eq(irig_do(r, ATA_FLUSH_CACHE, 0, 0), READY);
	look(&l);
	expect(&l, ACCOUNT_IRQS_LINE, 0);
	expect(&l, ACCOUNT_IRQS_SUPPRESSED, 1);
	irig_destroy(r);
}

Test(storage_account, ide_dma, .timeout = 30)
{
	struct irig *r = irig_create(1, "");
	struct ledger l = open_ledger(r->disk[0]->account);

	irig_mode(r, true);
	irig_select(r, 0, 0);
	irig_prd(r, 0, IRIG_BUFFER, 4096, true);
	for (unsigned in = 0; in < 2; in++) {
		look(&l);
		irig_issue(r, in ? ATA_READ_DMA : ATA_WRITE_DMA, 0, 8);
		irig_bm_start(r, in);
		while (!irig_line(r))
			usleep(250);
		cr_assert_eq(irig_in(r, STATUS), READY);
		irig_bm_stop(r);
		look(&l);
		expect(&l, ACCOUNT_REQUESTS, 1);
		expect(&l, in ? ACCOUNT_BYTES_IN : ACCOUNT_BYTES_OUT, 4096);
		expect(&l, in ? ACCOUNT_BYTES_OUT : ACCOUNT_BYTES_IN, 0);
		expect(&l, ACCOUNT_IRQS_LINE, 1);
		expect(&l, ACCOUNT_PIO_WRITES, 6 + 4); /* task file, bus master */
		cr_assert_eq(latencies(&l), 1);
	}
	irig_destroy(r);
}

/* Four disks on one controller: each has its own commands, exits and interrupts. */
Test(storage_account, ide_each_its_own, .timeout = 30)
{
	struct irig *r = irig_create(4, "");
	struct ledger l[4];
	uint16_t word[256];

	irig_mode(r, true);
	for (unsigned i = 0; i < 4; i++)
		l[i] = open_ledger(r->disk[i]->account);
	for (unsigned i = 0; i < 4; i++) {
		irig_select(r, i / 2, i % 2);
		for (unsigned k = 0; k < 4; k++)
			look(&l[k]);
		for (unsigned n = 0; n <= i; n++)
			irig_identify(r, word);
		for (unsigned k = 0; k < 4; k++)
			look(&l[k]);
		for (unsigned k = 0; k < 4; k++) {
			expect(&l[k], ACCOUNT_REQUESTS, k == i ? i + 1 : 0);
			expect(&l[k], ACCOUNT_BYTES_IN, k == i ? 512 * (i + 1) : 0);
			expect(&l[k], ACCOUNT_IRQS_LINE, k == i ? i + 1 : 0);
			cr_assert_eq(pio_exits(&l[k]) > 0, k == i);
		}
	}
	irig_destroy(r);
}

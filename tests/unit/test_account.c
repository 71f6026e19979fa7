/*
 * Accounts: known numbers counted from many threads, with and without a slot, come out whole; bus,
 * lines and messages count for whom they should; doorbells are read without being touched.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fake_chip.h"
#include "vmm/account.h"
#include "vmm/bus.h"
#include "vmm/irq.h"

static struct account *make(struct accounts **set)
{
	*set = accounts_create();
	cr_assert(*set);
	return account_create(*set, "blk0", "blk", "virtio", "virtio-blk");
}

static uint64_t value(struct account *a, enum account_counter c)
{
	struct account_block sum;

	account_read(a, &sum);
	return sum.value[c];
}

Test(account, every_counter_has_a_name_of_its_own)
{
	for (unsigned i = 0; i < ACCOUNT_COUNTERS; i++) {
		cr_assert(account_counters[i].name && account_counters[i].unit &&
			  account_counters[i].help);
		for (unsigned j = 0; j < i; j++)
			cr_assert_str_neq(account_counters[i].name, account_counters[j].name);
	}
}

Test(account, nothing_counts_without_an_account)
{
	struct account_block sum;
	uint64_t ns;

	account_add(NULL, ACCOUNT_REQUESTS, 1);
	account_end(NULL, account_begin(NULL, 1, 1));
	account_watch_kicks(NULL, 0);
	account_unwatch_kicks(NULL, 0);
	account_thread_begin(NULL, "x");
	account_thread_end();
	account_add_task(NULL, 1, true, "x");
	account_remove_task(NULL, 1);
	account_read(NULL, &sum);
	cr_assert_eq(sum.value[ACCOUNT_REQUESTS], 0);
	cr_assert_eq(account_cpu(NULL, NULL, 0, &ns), 0);
	cr_assert_null(account_create(NULL, "x", NULL, NULL, NULL));
}

/* ---- threads --------------------------------------------------------------------------------- */

#define THREADS 8u
#define ADDS	50000u

struct adder {
	struct account *a, *b;
	bool registered;
	pthread_t thread;
};

static void *add(void *arg)
{
	struct adder *adder = arg;

	if (adder->registered)
		account_thread_begin(adder->a, "adder");
	for (unsigned i = 0; i < ADDS; i++) {
		account_add(adder->a, ACCOUNT_REQUESTS, 1);
		account_add(adder->b, ACCOUNT_BYTES_IN, 3);
		account_end(adder->b, account_begin(adder->b, 1, i + 1));
	}
	account_thread_end();
	return NULL;
}

Test(account, sums_are_whole_from_threads_with_and_without_a_slot)
{
	struct accounts *set;
	struct account *a = make(&set), *b = account_create(set, "net0", "net", "virtio", "x");
	struct adder adder[THREADS];
	struct account_block sum;
	uint64_t ns, latencies = 0, depths = 0;

	/* Twice, so that slots are used again. */
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < THREADS; i++) {
			adder[i] = (struct adder){ .a = a, .b = b, .registered = i % 4 };
			pthread_create(&adder[i].thread, NULL, add, &adder[i]);
		}
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(adder[i].thread, NULL);
	}
	cr_assert_eq(value(a, ACCOUNT_REQUESTS), 2 * THREADS * ADDS);
	account_read(b, &sum);
	cr_assert_eq(sum.value[ACCOUNT_BYTES_IN], 2 * 3 * THREADS * ADDS);
	cr_assert_eq(sum.value[ACCOUNT_REQUESTS], 2 * THREADS * ADDS);
	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++)
		latencies += sum.latency[i];
	for (unsigned i = 0; i < ACCOUNT_DEPTHS; i++)
		depths += sum.depth[i];
	cr_assert_eq(latencies, 2 * THREADS * ADDS);
	cr_assert_eq(depths, 2 * THREADS * ADDS);
	cr_assert_eq(sum.depth[0], 2 * THREADS, "depth 1");
	cr_assert_eq(sum.depth[3], 2 * THREADS * 8, "depths 8 to 15");
	cr_assert_eq(account_cpu(a, NULL, 0, &ns), 0, "none is left");
	cr_assert_gt(ns, 0, "but what they took is known");
	accounts_destroy(set);
}

struct busy {
	struct account *a;
	int go, done;
	pthread_t thread;
};

static void *sleep_on(void *arg)
{
	struct busy *b = arg;
	uint64_t count;

	account_thread_begin(b->a, "sleeper");
	cr_expect_eq(eventfd_write(b->done, 1), 0);
	cr_expect_eq(read(b->go, &count, sizeof(count)), sizeof(count));
	account_thread_end();
	return NULL;
}

/* More threads than slots: the rest share, and nobody is lost. */
Test(account, more_threads_than_slots)
{
	static struct busy busy[ACCOUNT_SLOTS + 20];
	struct accounts *set;
	struct account *a = make(&set);
	unsigned n = sizeof(busy) / sizeof(busy[0]);
	struct account_cpu cpu[4];
	eventfd_t got;
	uint64_t ns;

	for (unsigned i = 0; i < n; i++) {
		busy[i] = (struct busy){ .a = a,
					 .go = eventfd(0, EFD_CLOEXEC),
					 .done = eventfd(0, EFD_CLOEXEC) };
		pthread_create(&busy[i].thread, NULL, sleep_on, &busy[i]);
		eventfd_read(busy[i].done, &got);
	}
	cr_assert_eq(account_cpu(a, cpu, 4, &ns), n);
	cr_assert_str_eq(cpu[0].name, "sleeper");
	cr_assert(!cpu[0].ended && !cpu[0].process && cpu[0].cpu_ns > 0);
	for (unsigned i = 0; i < n; i++) {
		eventfd_write(busy[i].go, 1);
		pthread_join(busy[i].thread, NULL);
	}
	cr_assert_eq(account_cpu(a, NULL, 0, &ns), 0);
	accounts_destroy(set);
}

Test(account, the_cpu_time_of_another_process)
{
	struct accounts *set;
	struct account *a = make(&set);
	struct account_cpu cpu;
	uint64_t ns = 0, end;
	int pipe_fd[2];
	pid_t pid;

	cr_assert_eq(pipe(pipe_fd), 0);
	pid = fork();
	if (pid == 0) {
		for (volatile unsigned i = 0; i < 20000000; i++)
			continue;
		cr_assert_eq(write(pipe_fd[1], "", 1), 1);
		pause();
	}
	account_add_task(a, pid, true, "backend");
	cr_assert_eq(read(pipe_fd[0], &end, 1), 1);
	cr_assert_eq(account_cpu(a, &cpu, 1, &ns), 1);
	cr_assert_eq(cpu.id, pid);
	cr_assert(cpu.process && !cpu.ended);
	cr_assert_gt(ns, 1000000, "it has counted to 20 million: %llu ns", (unsigned long long)ns);
	account_remove_task(a, pid);
	cr_assert_eq(account_cpu(a, &cpu, 1, &end), 0);
	cr_assert_geq(end, ns, "what it took stays");
	account_add_task(a, pid, true, "backend");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(account_cpu(a, &cpu, 1, &end), 1);
	cr_assert(cpu.ended, "a process that is gone is said to be");
	accounts_destroy(set);
}

static void *named(void *arg)
{
	struct busy *b = arg;
	eventfd_t got;

	pthread_setname_np(pthread_self(), "vhost-77");
	eventfd_write(b->done, 1);
	eventfd_read(b->go, &got);
	return NULL;
}

Test(account, finds_the_threads_that_a_system_call_made)
{
	struct accounts *set;
	struct account *a = make(&set);
	struct account_task_list before;
	struct account_cpu cpu;
	struct busy b = { .go = eventfd(0, 0), .done = eventfd(0, 0) };
	eventfd_t got;
	uint64_t ns;

	account_tasks_before(&before);
	pthread_create(&b.thread, NULL, named, &b);
	eventfd_read(b.done, &got);
	account_tasks_after(a, &before, "iou-");
	cr_assert_eq(account_cpu(a, &cpu, 1, &ns), 0, "that is another's name");
	account_tasks_after(a, &before, "vhost-");
	cr_assert_eq(account_cpu(a, &cpu, 1, &ns), 1);
	cr_assert_str_eq(cpu.name, "vhost-77");
	eventfd_write(b.go, 1);
	pthread_join(b.thread, NULL);
	accounts_destroy(set);
}

/* ---- doorbells ------------------------------------------------------------------------------- */

Test(account, doorbells_are_read_without_being_touched)
{
	struct accounts *set;
	struct account *a = make(&set);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	eventfd_t count;

	account_watch_kicks(a, fd);
	for (unsigned i = 0; i < 1000; i++)
		eventfd_write(fd, 1);
	account_add(a, ACCOUNT_KICKS_OWN, 100);
	account_add(a, ACCOUNT_KICKS_EXIT, 50);
	account_add(a, ACCOUNT_REQUESTS, 3000);
	cr_assert_eq(value(a, ACCOUNT_KICKS), 850);
	cr_assert_eq(value(a, ACCOUNT_KICKS), 850, "again");
	cr_assert_eq(value(a, ACCOUNT_KICKS_SUPPRESSED), 2100);
	account_unwatch_kicks(a, fd);
	cr_assert_eq(value(a, ACCOUNT_KICKS), 850, "stays when the doorbell goes");
	cr_assert_eq(eventfd_read(fd, &count), 0);
	cr_assert_eq(count, 1000);
	close(fd);
	accounts_destroy(set);
}

/* ---- latency --------------------------------------------------------------------------------- */

Test(account, latency_lands_in_its_power_of_two)
{
	struct accounts *set;
	struct account *a = make(&set);
	struct account_block sum;
	uint64_t now, p50;

	accounts_calibrate(set);
	for (unsigned i = 0; i < 100; i++) {
		now = account_now(a);
		account_end(a, now - (1u << 30)); /* at least 2^30 ticks ago, far less than 2^31 */
	}
	account_end(a, 0);		/* has none */
	account_end(a, UINT64_MAX / 2); /* from the future: a counter a little behind */
	account_read(a, &sum);
	cr_assert_eq(sum.latency[30], 100);
	p50 = account_latency_ns(a, &sum, 50);
	cr_assert(p50 > ticks_to_ns(a->ticks, 1u << 30) && p50 < ticks_to_ns(a->ticks, 1u << 31));
	accounts_destroy(set);
}

Test(account, ticks_are_nanoseconds_after_calibration)
{
	struct ticks t;
	uint64_t ns, ticks;

	ticks_init(&t);
	usleep(5000);
	ticks_calibrate(&t);
	ticks = ticks_now(&t);
	ns = ticks_monotonic_ns();
	usleep(20000);
	ticks = ticks_to_ns(&t, ticks_now(&t) - ticks);
	ns = ticks_monotonic_ns() - ns;
	/* Other threads may run in between, so this only tells nanoseconds from clock cycles. */
	cr_assert(ticks > ns / 2 && ticks < ns * 2, "%llu ticks-ns in %llu ns",
		  (unsigned long long)ticks, (unsigned long long)ns);
}

/* ---- who counts ------------------------------------------------------------------------------ */

static uint64_t zero(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque, (void)offset, (void)size;
	return 0;
}

static void ignore(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
	(void)opaque, (void)offset, (void)size, (void)value;
}

static const struct bus_ops ops = { .read = zero, .write = ignore };

Test(account, the_bus_counts_for_the_owner)
{
	struct accounts *set;
	struct account *a = make(&set), *machine = account_machine(set);
	struct bus *bus = bus_create("pio");
	struct bus_range r = { .name = "r", .base = 0x10, .size = 8, .ops = &ops, .account = a };
	struct bus_kick kick = { .addr = 0x12, .fd = eventfd(0, EFD_NONBLOCK), .account = a };
	struct error e;
	uint64_t v;

	bus_add(bus, &r, &e);
	bus_read(bus, 0x10, 1, &v);
	cr_assert_eq(value(a, ACCOUNT_PIO_READS), 0, "not before it is told to");
	bus_set_account(bus, machine, ACCOUNT_PIO_READS, ACCOUNT_PIO_WRITES);
	bus_kick_add(bus, &kick);
	for (unsigned i = 0; i < 7; i++)
		bus_read(bus, 0x10, 1, &v);
	for (unsigned i = 0; i < 5; i++)
		bus_write(bus, 0x11, 2, 0);
	bus_write(bus, 0x12, 1, 0); /* a doorbell that had to come as an exit */
	bus_write(bus, 0x99, 1, 0); /* nobody's */
	bus_repeated(bus, 0x10, 1, false, 4);
	cr_assert_eq(value(a, ACCOUNT_PIO_READS), 3);
	cr_assert_eq(value(a, ACCOUNT_REPEATS), 4);
	cr_assert_eq(value(a, ACCOUNT_PIO_WRITES), 6);
	cr_assert_eq(value(a, ACCOUNT_KICKS_EXIT), 1);
	cr_assert_eq(value(machine, ACCOUNT_PIO_WRITES), 1);
	cr_assert_eq(value(machine, ACCOUNT_PIO_READS), 0);
	bus_destroy(bus);
	close(kick.fd);
	accounts_destroy(set);
}

Test(account, interrupts_count_by_their_way)
{
	struct accounts *set;
	struct account *a = make(&set);
	struct fake_chip chip = { 0 };
	struct irq_chip_ops mine = fake_chip_ops;
	struct error e;
	struct irq_controller *ic = irq_create(&fake_chip_ops, &chip, &e), *own;
	struct irq_line line;
	struct irq_msi msi;

	irq_line_init(&line, ic, 5);
	line.account = a;
	irq_line_set(&line, true);
	irq_line_set(&line, true); /* is high already */
	irq_line_set(&line, false);
	irq_line_set(&line, true);
	cr_assert_eq(value(a, ACCOUNT_IRQS_LINE), 2);
	irq_msi_init(&msi, ic);
	msi.account = a;
	irq_msi_send(&msi); /* masked: only pending */
	cr_assert_eq(value(a, ACCOUNT_IRQS_IOCTL), 0);
	irq_msi_configure(&msi, 0xfee00000, 0x41, false);
	irq_msi_send(&msi);
	cr_assert_eq(value(a, ACCOUNT_IRQS_IOCTL), 2);
	irq_msi_destroy(&msi);
	mine.own = true;
	own = irq_create(&mine, &chip, &e);
	irq_msi_init(&msi, own);
	msi.account = a;
	irq_msi_configure(&msi, 0xfee00000, 0x41, false);
	irq_msi_send(&msi);
	cr_assert_eq(value(a, ACCOUNT_IRQS_OWN), 1);
	cr_assert_eq(value(a, ACCOUNT_IRQS_IOCTL), 2);
	irq_msi_destroy(&msi);
	irq_destroy(own);
	irq_destroy(ic);
	accounts_destroy(set);
}

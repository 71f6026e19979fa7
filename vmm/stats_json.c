/*
 * Statistics as JSON. Everything counted is in it, zeros too, under the names of
 * account_counters[]; what is derived from several counters stands beside them. Times are
 * nanoseconds, sizes bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "vmm/json.h"
#include "vmm/stats.h"

#define MAX_TASKS 128

/* ---- CPU time -------------------------------------------------------------------------------- */

struct split {
	uint64_t user_ns, system_ns, guest_ns;
};

/* Of a thread of ours, from the kernel's books, in clock ticks (10 ms). proc(5). */
static bool read_split(pid_t id, struct split *split)
{
	unsigned long long user = 0, system = 0, guest = 0, tick = (uint64_t)sysconf(_SC_CLK_TCK);
	char path[64], text[512], *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)id);
	f = fopen(path, "re");
	if (!f)
		return false;
	at = fgets(text, sizeof(text), f);
	fclose(f);
	at = at ? strrchr(text, ')') : NULL; /* the name may hold anything */
	if (!at || !tick)
		return false;
	/* Fields 3 to 43; 14 and 15 are user and system, 43 is guest (also counted as user). */
	if (sscanf(at + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
		   "%*d %*u %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %*d "
		   "%*u %*u %*u %llu",
		   &user, &system, &guest) != 3)
		return false;
	split->guest_ns = guest * 1000000000u / tick;
	split->user_ns = (user > guest ? user - guest : 0) * 1000000000u / tick;
	split->system_ns = system * 1000000000u / tick;
	return true;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t time_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

static void process(struct json *j)
{
	struct rusage self, children;

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	json_open(j, "process", '{');
	json_u64(j, "pid", (uint64_t)getpid());
	json_u64(j, "cpu_ns", clock_ns(CLOCK_PROCESS_CPUTIME_ID));
	json_u64(j, "user_ns", time_ns(self.ru_utime));
	json_u64(j, "system_ns", time_ns(self.ru_stime));
	json_u64(j, "ended_children_ns", time_ns(children.ru_utime) + time_ns(children.ru_stime));
	json_u64(j, "max_rss_bytes", (uint64_t)self.ru_maxrss * 1024u);
	json_u64(j, "context_switches", (uint64_t)(self.ru_nvcsw + self.ru_nivcsw));
	json_close(j, '}');
}

static void threads(struct json *j, struct account *a)
{
	struct account_cpu cpu[MAX_TASKS];
	uint64_t total;
	unsigned n = account_cpu(a, cpu, MAX_TASKS, &total);

	json_u64(j, "cpu_ns", total);
	json_open(j, "threads", '[');
	for (unsigned i = 0; i < n && i < MAX_TASKS; i++) {
		struct split split;

		json_open_row(j, NULL, '{');
		json_string(j, "name", cpu[i].name);
		json_u64(j, cpu[i].process ? "pid" : "tid", (uint64_t)cpu[i].id);
		json_u64(j, "cpu_ns", cpu[i].cpu_ns);
		if (!cpu[i].process && !cpu[i].ended && read_split(cpu[i].id, &split)) {
			json_u64(j, "user_ns", split.user_ns);
			json_u64(j, "system_ns", split.system_ns);
			json_u64(j, "guest_ns", split.guest_ns);
		}
		if (cpu[i].ended)
			json_bool(j, "ended", true);
		json_close(j, '}');
	}
	json_close(j, ']');
}

/* ---- KVM's ----------------------------------------------------------------------------------- */

static void kvm_stat(const struct kvm_stat *stat, void *arg)
{
	struct json *j = arg;

	if (stat->boolean) {
		json_bool(j, stat->name, stat->value[0]);
		return;
	}
	if (stat->count == 1) {
		json_u64(j, stat->name, stat->value[0]);
		return;
	}
	json_open_row(j, stat->name, '[');
	for (unsigned i = 0; i < stat->count; i++)
		json_u64(j, NULL, stat->value[i]);
	json_close(j, ']');
}

static void kvm_stats(struct json *j, const char *name, struct kvm_stats *s)
{
	if (s->fd < 0)
		return;
	json_open(j, name, '{');
	kvm_stats_read(s, kvm_stat, j);
	json_close(j, '}');
}

static void vcpus(struct json *j, struct stats *s)
{
	const struct vcpu_set *set = s->source.vcpus;

	json_open(j, "vcpus", '[');
	for (unsigned i = 0; i < set->count; i++) {
		const struct vcpu_counters *c = &set->vcpu[i].counters;

		json_open(j, NULL, '{');
		json_u64(j, "id", i);
		json_u64(j, "pio_reads", c->pio_reads);
		json_u64(j, "pio_writes", c->pio_writes);
		json_u64(j, "mmio_reads", c->mmio_reads);
		json_u64(j, "mmio_writes", c->mmio_writes);
		json_u64(j, "unclaimed", c->unclaimed);
		json_u64(j, "other", c->other);
		if (i < s->nvcpus)
			kvm_stats(j, "kvm", &s->vcpu[i]);
		json_close(j, '}');
	}
	json_close(j, ']');
}

/* ---- accounts -------------------------------------------------------------------------------- */

static void latency(struct json *j, const struct account *a, const struct account_block *sum)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++)
		count += sum->latency[i];
	json_open(j, "latency", '{');
	json_u64(j, "count", count);
	json_u64(j, "mean_ns", count ? ticks_to_ns(a->ticks, sum->latency_ticks / count) : 0);
	json_u64(j, "p50_ns", account_latency_ns(a, sum, 50));
	json_u64(j, "p90_ns", account_latency_ns(a, sum, 90));
	json_u64(j, "p99_ns", account_latency_ns(a, sum, 99));
	/* From so many nanoseconds on to twice as many: so many requests. */
	json_open_row(j, "buckets", '[');
	for (unsigned i = 0; i < ACCOUNT_BUCKETS; i++) {
		if (!sum->latency[i])
			continue;
		fprintf(j->out, "%s[%llu, %llu]", j->more ? ", " : "",
			(unsigned long long)ticks_to_ns(a->ticks, 1ull << i),
			(unsigned long long)sum->latency[i]);
		j->more = true;
	}
	json_close(j, ']');
	json_close(j, '}');
}

static void depth(struct json *j, const struct account_block *sum)
{
	char name[16];

	/* So many in flight to less than twice as many: so many requests. */
	json_open_row(j, "depth", '{');
	for (unsigned i = 0; i < ACCOUNT_DEPTHS; i++) {
		snprintf(name, sizeof(name), "%u", 1u << i);
		if (sum->depth[i])
			json_u64(j, name, sum->depth[i]);
	}
	json_close(j, '}');
}

static void account(struct json *j, struct account *a, const char *name)
{
	struct account_block sum;

	account_read(a, &sum);
	json_open(j, name, '{');
	json_string(j, "name", a->name);
	if (a->class) {
		json_string(j, "class", a->class);
		json_string(j, "model", a->model);
		json_string(j, "hw", a->hw);
	}
	json_u64(j, "exits", account_exits(&sum));
	json_u64(j, "interrupts", account_irqs(&sum));
	for (unsigned i = 0; i < ACCOUNT_COUNTERS; i++)
		json_u64(j, account_counters[i].name, sum.value[i]);
	if (a->class) {
		latency(j, a, &sum);
		depth(j, &sum);
	}
	threads(j, a);
	json_close(j, '}');
}

void stats_json(struct stats *s, const char *why, int status, FILE *out)
{
	struct json j = { .out = out };
	struct account *machine = accounts_first(s->source.accounts);

	json_open(&j, NULL, '{');
	json_string(&j, "mvm", MVM_VERSION);
	json_string(&j, "why", why);
	if (status >= 0)
		json_u64(&j, "status", (uint64_t)status);
	json_double(&j, "time", (double)clock_ns(CLOCK_REALTIME) / 1e9);
	json_u64(&j, "wall_ns", ticks_monotonic_ns() - s->start_ns);
	process(&j);
	account(&j, machine, "machine");
	vcpus(&j, s);
	kvm_stats(&j, "kvm", &s->vm);
	json_open(&j, "devices", '[');
	for (struct account *a = machine->next; a; a = a->next)
		account(&j, a, NULL);
	json_close(&j, ']');
	json_close(&j, '}');
}

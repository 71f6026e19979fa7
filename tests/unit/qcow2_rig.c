/*
 * See qcow2_rig.h.
 */
#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/backend/block_file.h"
#include "tests/unit/qcow2_rig.h"

static char directory[64]; /* of this test; each runs in a process of its own */

void qrig_begin(void)
{
	snprintf(directory, sizeof(directory), "%s/mvm-qcow2-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	cr_assert_not_null(mkdtemp(directory));
}

void qrig_end(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", directory);
	if (system(command) != 0)
		cr_log_warn("%s stays", directory);
}

const char *qrig_path(const char *name)
{
	static char path[16][160];
	static unsigned next;
	char *p = path[next++ % 16];

	snprintf(p, sizeof(path[0]), "%s/%s", directory, name);
	return p;
}

void qrig_write_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const uint8_t *)bytes + done, len - done);

		cr_assert_gt(n, 0, "%s: %s", path, strerror(errno));
		done += (size_t)n;
	}
	close(fd);
}

uint8_t *qrig_read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;

	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	*len = (size_t)st.st_size;
	bytes = malloc(*len + 1);
	cr_assert_not_null(bytes);
	cr_assert_eq(pread(fd, bytes, *len, 0), (ssize_t)*len);
	close(fd);
	return bytes;
}

int qrig_run(const char *fmt, ...)
{
	char command[2048];
	va_list ap;
	int used = snprintf(command, sizeof(command), "cd '%s' && exec 2>&1 && ", directory),
	    status;

	va_start(ap, fmt);
	vsnprintf(command + used, sizeof(command) - (size_t)used, fmt, ap);
	va_end(ap);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool qrig_has_qemu_img(void)
{
	return system("command -v qemu-img >/dev/null 2>&1") == 0;
}

void qrig_need_qemu_img(void)
{
	if (!qrig_has_qemu_img())
		cr_skip_test("qemu-img is not installed (package qemu-utils)");
}

/* Exit statuses: 0 sound, 2 corrupt, 3 only leaks. */
void qrig_check(const char *path, bool leaks)
{
	int status;

	if (!qrig_has_qemu_img())
		return;
	status = qrig_run("qemu-img check -f qcow2 '%s' >check.log 2>&1", path);
	if (status == 0 || (status == 3 && !leaks))
		return;
	qrig_run("head -30 check.log >&2; ls -l >&2");
	cr_assert_fail("qemu-img check %s: status %d", path, status);
}

unsigned qrig_times(unsigned n)
{
	const char *text = getenv("QCOW2_TIMES");
	unsigned long times = text ? strtoul(text, NULL, 10) : 0;

	return times ? n * (unsigned)times : n; /* never none: a test that does nothing passes */
}

/* ---- the tiny writer ------------------------------------------------------------------------- */

static void put32(uint8_t *at, uint32_t v)
{
	v = htobe32(v);
	memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
	v = htobe64(v);
	memcpy(at, &v, sizeof(v));
}

static void put_header(uint8_t *h, const struct qrig_image *i, uint64_t l1_size)
{
	uint64_t cluster = 1ull << i->cluster_bits;
	size_t at = i->version == 2 ? 72 : 104;

	memcpy(h, "QFI\xfb", 4);
	put32(h + 4, i->version);
	put32(h + 20, i->cluster_bits);
	put64(h + 24, i->size);
	put32(h + 36, (uint32_t)l1_size);
	put64(h + 40, 3 * cluster);
	put64(h + 48, 1 * cluster);
	put32(h + 56, 1);
	if (i->version >= 3) {
		put64(h + 72, i->incompatible);
		put64(h + 80, i->compatible);
		put64(h + 88, i->autoclear);
		put32(h + 96, i->refcount_order);
		put32(h + 100, 104);
	}
	if (!i->backing)
		return;
	if (i->backing_format) {
		put32(h + at, 0xe2792aca);
		put32(h + at + 4, (uint32_t)strlen(i->backing_format));
		memcpy(h + at + 8, i->backing_format, strlen(i->backing_format));
		at += 16;
	}
	at += 8;
	put64(h + 8, at);
	put32(h + 16, (uint32_t)strlen(i->backing));
	memcpy(h + at, i->backing, strlen(i->backing));
}

void qrig_make(const char *path, const struct qrig_image *i)
{
	size_t cluster = (size_t)1 << i->cluster_bits;
	uint64_t per_l1 = cluster * (cluster / 8);
	uint64_t l1_size = (i->size + per_l1 - 1) / per_l1;
	uint64_t used = 3 + (l1_size * 8 + cluster - 1) / cluster;
	unsigned order = i->version == 2 ? 4 : i->refcount_order;
	uint8_t *bytes = calloc(used, cluster), *block = bytes + 2 * cluster;

	cr_assert_not_null(bytes);
	cr_assert_leq(used, cluster * 8 >> order);
	put_header(bytes, i, l1_size);
	put64(bytes + cluster, 2 * cluster);
	for (uint64_t c = 0; c < used; c++) {
		if (order >= 3)
			block[((c + 1) << (order - 3)) - 1] = 1;
		else
			block[(c << order) / 8] |= (uint8_t)(1u << ((c << order) % 8));
	}
	qrig_write_file(path, bytes, used * cluster);
	free(bytes);
}

/* ---- random ---------------------------------------------------------------------------------- */

uint64_t qrig_random(struct qrig_random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ull); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t qrig_below(struct qrig_random *r, uint64_t n)
{
	return qrig_random(r) % n;
}

void qrig_fill(struct qrig_random *r, uint8_t *bytes, size_t len)
{
	uint64_t v = qrig_random(r);

	for (size_t i = 0; i < len; i += sizeof(v)) {
		if (i % 512 == 0)
			v = qrig_random(r);
		else if (i & 4096)
			v = v * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(bytes + i, &v, len - i < sizeof(v) ? len - i : sizeof(v));
	}
}

/* ---- the model ------------------------------------------------------------------------------- */

struct qcow2 *qrig_open(const char *path, const struct qcow2_options *options)
{
	struct qcow2 *q = NULL;
	struct error e = { "" };

	cr_assert_eq(qcow2_open(&q, path, options, &e), 0, "%s", e.msg);
	return q;
}

int qrig_pread(struct qcow2 *q, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };

	return qcow2_read(q, offset, &iov, 1);
}

int qrig_pwrite(struct qcow2 *q, uint64_t offset, const void *buf, size_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };

	return qcow2_write(q, offset, &iov, 1);
}

void qrig_disk_open(struct qrig_disk *d)
{
	d->image = qrig_open(d->path, &d->options);
	cr_assert_eq(qcow2_size(d->image), d->size);
}

void qrig_disk_close(struct qrig_disk *d)
{
	cr_assert_eq(qcow2_close(d->image), 0);
	d->image = NULL;
}

/* A request's buffer as a few iovecs of odd lengths. */
static int cut(struct qrig_disk *d, uint8_t *buf, size_t len, struct iovec *iov, int max)
{
	int n = 0;

	while (len) {
		size_t piece = n == max - 1 ? len : 1 + qrig_below(&d->random, len);

		iov[n++] = (struct iovec){ .iov_base = buf, .iov_len = piece };
		buf += piece;
		len -= piece;
	}
	return n;
}

static void step_read(struct qrig_disk *d, uint64_t offset, size_t len)
{
	uint8_t *buf = malloc(len);
	struct iovec iov[4];

	memset(buf, 0xa5, len);
	cr_assert_eq(qcow2_read(d->image, offset, iov, cut(d, buf, len, iov, 4)), 0);
	cr_assert(memcmp(buf, d->bytes + offset, len) == 0, "read of 0x%zx at 0x%llx differs", len,
		  (unsigned long long)offset);
	free(buf);
}

static void step_write(struct qrig_disk *d, uint64_t offset, size_t len)
{
	struct iovec iov[4];

	qrig_fill(&d->random, d->bytes + offset, len);
	cr_assert_eq(qcow2_write(d->image, offset, iov, cut(d, d->bytes + offset, len, iov, 4)), 0);
}

/* What an engine does by itself. */
static void step_mapped(struct qrig_disk *d, uint64_t offset, size_t len, bool write)
{
	const struct block_file *f = qcow2_file(d->image);
	struct block_extent x;
	uint8_t *buf;

	if (!qcow2_map(d->image, write, offset, len, &x))
		return;
	d->mapped++;
	if (write) {
		qrig_fill(&d->random, d->bytes + offset, len);
		cr_assert_eq(block_file_write(f, d->bytes + offset, len, x.offset), 0);
	} else {
		buf = malloc(len);
		cr_assert_eq(block_file_read(f, buf, len, x.offset), 0);
		cr_assert(memcmp(buf, d->bytes + offset, len) == 0);
		free(buf);
	}
	qcow2_unmap(d->image, &x);
}

/* A discarded byte may stay or become zero. */
static void step_discard(struct qrig_disk *d, uint64_t offset, size_t len)
{
	uint8_t *buf = malloc(len);
	size_t wrong = 0;

	cr_assert_eq(qcow2_discard(d->image, offset, len), 0);
	cr_assert_eq(qrig_pread(d->image, offset, buf, len), 0);
	for (size_t i = 0; i < len; i++)
		wrong += buf[i] != d->bytes[offset + i] && buf[i] != 0;
	cr_assert_eq(wrong, 0);
	memcpy(d->bytes + offset, buf, len);
	free(buf);
}

static void step(struct qrig_disk *d)
{
	uint64_t sectors = d->size / 512, max = d->max / 512;
	uint64_t first = qrig_below(&d->random, sectors), n, dice = qrig_below(&d->random, 100);
	uint64_t offset, len;

	if (qrig_below(&d->random, 3))
		max = 16;
	n = 1 + qrig_below(&d->random, max);
	if (n > sectors - first)
		n = sectors - first;
	offset = first * 512;
	len = n * 512;
	if (dice < 35) {
		step_read(d, offset, len);
	} else if (dice < 70) {
		step_write(d, offset, len);
	} else if (dice < 80) {
		step_mapped(d, offset, len, dice & 1);
	} else if (dice < 88) {
		memset(d->bytes + offset, 0, len);
		cr_assert_eq(qcow2_write_zeroes(d->image, offset, len, dice & 1), 0);
	} else if (dice < 96) {
		step_discard(d, offset, len);
	} else if (dice < 99) {
		d->flushes++;
		cr_assert_eq(qcow2_flush(d->image), 0);
	} else if (qrig_below(&d->random, 10) == 0) {
		qrig_disk_close(d);
		qrig_disk_open(d);
	}
}

void qrig_disk_steps(struct qrig_disk *d, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		step(d);
}

void qrig_disk_compare(struct qrig_disk *d)
{
	uint8_t *buf = malloc(d->size);

	cr_assert_eq(qrig_pread(d->image, 0, buf, d->size), 0);
	/* An assertion for each byte is half of the test's time. */
	for (uint64_t i = 0; i < d->size; i++) {
		if (buf[i] != d->bytes[i])
			cr_assert_fail("byte 0x%llx differs", (unsigned long long)i);
	}
	free(buf);
}

void qrig_disk_judge(struct qrig_disk *d)
{
	if (!qrig_has_qemu_img())
		return;
	qrig_check(d->path, true);
	qrig_write_file(qrig_path("model.raw"), d->bytes, d->size);
	cr_assert_eq(qrig_run("qemu-img compare -q -f qcow2 -F raw '%s' model.raw >&2", d->path),
		     0);
}

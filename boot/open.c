/*
 * Opening a kernel or initrd so that it can be read again at every reset: a regular file stays as
 * it is, anything that can be read only once (a pipe, <(zcat …)) is copied into a memfd first.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/boot.h"

static int copy(int from, int to, uint64_t limit, const char *path, struct error *e)
{
	char buf[65536];
	uint64_t total = 0;

	for (;;) {
		ssize_t n = read(from, buf, sizeof(buf));

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(e, -errno, "%s: cannot read it", path);
		total += (uint64_t)n;
		if (total > limit)
			return error_set(e, -ENOMEM,
					 "%s: is larger than the guest's RAM (%llu MiB)", path,
					 (unsigned long long)(limit >> 20));
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(to, buf + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR)
				return error_set_errno(e, -errno, "%s: cannot copy it", path);
			if (w > 0)
				done += w;
		}
	}
}

int boot_open(const char *path, uint64_t limit, struct error *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int memfd, err;

	if (fd < 0)
		return error_set_errno(e, -errno, "%s: cannot open it", path);
	if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return fd; /* reading a directory will say what it is */
	memfd = memfd_create("mvm-boot", MFD_CLOEXEC);
	err = memfd < 0 ? error_set_errno(e, -errno, "%s: cannot make a memfd for it", path)
			: copy(fd, memfd, limit, path, e);
	close(fd);
	if (err) {
		if (memfd >= 0)
			close(memfd);
		return err;
	}
	return memfd;
}

/*
 * Files as they come: gzip in every state of damage, pipes, empty and wrong ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "boot/image.h"
#include "tests/unit/test_boot.h"

#define RAM (32 * MIB)

Test(boot_image, gzipped_vmlinux)
{
	struct blob k = make_elf(), gz = blob_gzip(&k);
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &gz, NULL), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.rip, ELF_PVH_ENTRY);
	cr_assert_arr_eq(memory_map(&rig.memory, ELF_TEXT, ELF_TEXT_SIZE, 1),
			 k.data + ELF_TEXT_FILE, ELF_TEXT_SIZE);
	blob_free(&gz);

	/* An error inside says that offsets are not the file's. */
	elf_ehdr(&k)->e_machine = EM_AARCH64;
	gz = blob_gzip(&k);
	boot_rig_expect(&rig, boot_rig_load(&rig, &gz, NULL), -ENOEXEC,
			"kernel (inflated): offset 0x12: is for arm64");
	blob_free(&gz);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_image, gzip_truncated_anywhere)
{
	struct blob k = make_elf(), gz = blob_gzip(&k);
	size_t whole = gz.size;
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	for (gz.size = 3; gz.size < whole; gz.size++)
		boot_rig_expect(&rig, boot_rig_load(&rig, &gz, NULL), -ENOEXEC,
				"the gzip stream ends early");
	blob_free(&gz);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_image, gzip_damaged)
{
	struct blob k = make_elf(), gz = blob_gzip(&k), longer;
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	/* Any bit of the trailer: CRC32 and ISIZE. */
	for (size_t bit = 0; bit < 64; bit++) {
		gz.data[gz.size - 8 + bit / 8] ^= (uint8_t)(1 << bit % 8);
		boot_rig_expect(&rig, boot_rig_load(&rig, &gz, NULL), -ENOEXEC,
				"the gzip stream is damaged");
		gz.data[gz.size - 8 + bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	longer = (struct blob){ .data = calloc(1, gz.size + 1), .size = gz.size + 1 };
	memcpy(longer.data, gz.data, gz.size);
	boot_rig_expect(&rig, boot_rig_load(&rig, &longer, NULL), -ENOEXEC, "something follows");
	blob_free(&longer);
	blob_free(&gz);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_image, gzip_bomb)
{
	struct blob zeros = { .data = calloc(1, RAM + 1), .size = RAM + 1 };
	struct blob bomb = blob_gzip(&zeros);
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	cr_assert_lt(bomb.size, 64 << 10);
	boot_rig_expect(&rig, boot_rig_load(&rig, &bomb, NULL), -ENOMEM,
			"inflates to more than the 33554432 bytes");
	blob_free(&bomb);
	zeros.size = RAM;
	bomb = blob_gzip(&zeros);
	boot_rig_expect(&rig, boot_rig_load(&rig, &bomb, NULL), -ENOEXEC, "is not a kernel");
	blob_free(&bomb);
	blob_free(&zeros);
	boot_rig_destroy(&rig);
}

/* An initrd is bytes: a compressed one is for the kernel to unpack. */
Test(boot_image, gzipped_initrd_stays_so)
{
	struct blob k = make_bzimage(), gz = blob_gzip(&k);
	const struct boot_params *bp;
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	cr_assert_eq(boot_rig_load(&rig, &k, &gz), 0, "%s", rig.e.msg);
	bp = memory_map(&rig.memory, rig.entry.rsi, sizeof(*bp), 1);
	cr_assert_eq(bp->hdr.ramdisk_size, gz.size);
	cr_assert_arr_eq(memory_map(&rig.memory, bp->hdr.ramdisk_image, gz.size, 4096), gz.data,
			 gz.size);
	blob_free(&gz);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

Test(boot_image, names_what_is_no_kernel)
{
	static const struct {
		unsigned offset;
		const char *magic, *says;
	} cases[] = {
		{ 0x38, "ARM\x64", "is for arm64" },
		{ 0x38, "RSC\x05", "is for riscv" },
		{ 4, "zimg", "EFI zboot" },
		{ 0, "\xfd\x37zXZ", "xz" },
		{ 0, "\x28\xb5\x2f\xfd", "zstd" },
		{ 0, "BZh9", "bzip2" },
		{ 0, "070701", "cpio" },
		{ 0, "#!/bin/sh", "is not a kernel" },
	};
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t bytes[1024] = { 0 };
		struct blob b = { .data = bytes, .size = sizeof(bytes) };

		memcpy(bytes + cases[i].offset, cases[i].magic, strlen(cases[i].magic));
		boot_rig_expect(&rig, boot_rig_load(&rig, &b, NULL), -ENOEXEC, cases[i].says);
		b.size = 1;
		boot_rig_expect(&rig, boot_rig_load(&rig, &b, NULL), -ENOEXEC, "is not a kernel");
		b.size = 0;
		boot_rig_expect(&rig, boot_rig_load(&rig, &b, NULL), -ENOEXEC, "is empty");
	}
	boot_rig_destroy(&rig);
}

Test(boot_image, directory_and_closed_descriptor)
{
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.config.kernel_fd = open("/", O_RDONLY | O_CLOEXEC);
	boot_rig_expect(&rig, boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), -EISDIR,
			"kernel: is a directory");
	close(rig.config.kernel_fd);
	boot_rig_expect(&rig, boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), -EBADF,
			"kernel: cannot read it: Bad file descriptor");
	rig.config.kernel_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	boot_rig_expect(&rig, boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), -ENOMEM,
			"holds more than");
	close(rig.config.kernel_fd);
	boot_rig_destroy(&rig);
}

struct writer {
	int fd;
	const struct blob *b;
};

static void *write_slowly(void *arg)
{
	const struct writer *w = arg;

	for (size_t done = 0; done < w->b->size;) {
		size_t left = w->b->size - done;
		ssize_t n = write(w->fd, w->b->data + done, left < 777 ? left : 777);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	close(w->fd);
	return NULL;
}

Test(boot_image, pipe_is_read_whole)
{
	struct blob k = make_elf();
	struct boot_rig rig;
	struct writer w = { .b = &k };
	pthread_t thread;
	int fds[2];

	boot_rig_init(&rig, RAM);
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	w.fd = fds[1];
	cr_assert_eq(pthread_create(&thread, NULL, write_slowly, &w), 0);
	rig.config.kernel_fd = fds[0];
	cr_assert_eq(boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), 0, "%s", rig.e.msg);
	cr_assert_eq(rig.entry.rip, ELF_PVH_ENTRY);
	pthread_join(thread, NULL);
	boot_rig_expect(&rig, boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), -ENOEXEC,
			"a pipe can be read only once");
	close(fds[0]);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

/* The size was taken; then somebody truncates the file. */
Test(boot_image, file_that_shrinks)
{
	struct blob k = make_elf();
	int fd = blob_fd(&k);
	struct image image;
	uint8_t buf[16];
	struct error e;

	cr_assert_eq(image_open(&image, "kernel", fd, RAM, &e), 0);
	cr_assert_eq(ftruncate(fd, 0x1008), 0);
	cr_assert_eq(image_read(&image, 0x1000, buf, sizeof(buf), "a segment", &e), -ENOEXEC);
	cr_assert_str_eq(e.msg, "kernel: offset 0x1008: the file shrank while a segment was read");
	image_close(&image);
	close(fd);
	blob_free(&k);
}

/* The file offset is not ours to use or move. */
Test(boot_image, reads_from_the_start_wherever_the_offset_is)
{
	struct blob k = make_elf();
	struct boot_rig rig;

	boot_rig_init(&rig, RAM);
	rig.config.kernel_fd = blob_fd(&k);
	cr_assert_eq(lseek(rig.config.kernel_fd, 100, SEEK_SET), 100);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(boot_load(&rig.memory, &rig.config, &rig.entry, &rig.e), 0, "%s",
			     rig.e.msg);
	cr_assert_eq(lseek(rig.config.kernel_fd, 0, SEEK_CUR), 100);
	close(rig.config.kernel_fd);
	blob_free(&k);
	boot_rig_destroy(&rig);
}

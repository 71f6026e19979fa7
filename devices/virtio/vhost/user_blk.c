/*
 * --blk=vhost: on a vhost-user-blk back end (Virtio 1.2 section 5.2). The target says which: a
 * socket means one that is there already (or comes, with server=on); an image means one of our own,
 * started here as a child and gone with us.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/block_keys.h"
#include "devices/virtio/vhost/backend.h"
#include "devices/virtio/vhost/generic.h"
#include "devices/virtio/vhost/user.h"

#define FEATURES                                                                                   \
	(VIRTIO_BIT(VIRTIO_BLK_F_SIZE_MAX) | VIRTIO_BIT(VIRTIO_BLK_F_SEG_MAX) |                    \
	 VIRTIO_BIT(VIRTIO_BLK_F_GEOMETRY) | VIRTIO_BIT(VIRTIO_BLK_F_RO) |                         \
	 VIRTIO_BIT(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_BIT(VIRTIO_BLK_F_FLUSH) |                      \
	 VIRTIO_BIT(VIRTIO_BLK_F_TOPOLOGY) | VIRTIO_BIT(VIRTIO_BLK_F_CONFIG_WCE) |                 \
	 VIRTIO_BIT(VIRTIO_BLK_F_MQ) | VIRTIO_BIT(VIRTIO_BLK_F_DISCARD) |                          \
	 VIRTIO_BIT(VIRTIO_BLK_F_WRITE_ZEROES))

/*
 * To the end of what the features above have fields for: a back end refuses to be asked for more
 * than it knows.
 */
#define CONFIG_LEN 60u
_Static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4 == CONFIG_LEN,
	       "the field and its padding are the last");

/* The device has as many queues as the flag says, whatever the back end could have. */
static void fix_config(void *space, unsigned nqueues)
{
	uint16_t field = htole16((uint16_t)nqueues);

	memcpy((uint8_t *)space + offsetof(struct virtio_blk_config, num_queues), &field,
	       sizeof(field));
}

/* ---- a back end of our own ------------------------------------------------------------------- */

/* A comma in a target or a value is written twice. */
static void print_field(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == ',')
			putc(',', out);
		putc(*text, out);
	}
}

static void print_choice(FILE *out, const char *choices, uint64_t index)
{
	for (; index; index--)
		choices += strcspn(choices, "|") + 1;
	fprintf(out, "%.*s", (int)strcspn(choices, "|"), choices);
}

static void print_value(FILE *out, const struct device_key *key, const struct device_value *value)
{
	fprintf(out, ",%s=", key->name);
	if (key->type == KEY_BOOL)
		fputs(value->number ? "on" : "off", out);
	else if (key->type == KEY_ENUM)
		print_choice(out, key->choices, value->number);
	else if (key->type == KEY_STRING)
		print_field(out, value->text);
	else
		fprintf(out, "%llu", (unsigned long long)value->number);
}

static bool backend_knows(const char *key)
{
	for (const struct device_key *k = backend_blk_keys; k->name; k++)
		if (strcmp(k->name, key) == 0)
			return true;
	return false;
}

/* "IMAGE,KEY=VALUE…" with all that the command takes; the caller frees it. NULL: no memory. */
static char *operand(const struct device_config *config)
{
	const struct device_key *key = config->row->keys;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	print_field(out, config->target);
	for (unsigned i = 0; key[i].name; i++)
		if (config->value[i].set && backend_knows(key[i].name))
			print_value(out, &key[i], &config->value[i]);
	/* The same as the other models would have. */
	if (!device_config_string(config, "serial"))
		fprintf(out, ",serial=mvm-blk-%u", config->index);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static int open_child(struct vhost **out, const struct device_config *config,
		      struct vhost_user_options *options, struct error *e)
{
	char program[] = "mvm", word1[] = "backend", word2[] = "blk", fd[] = "--fd=3";
	char *argv[] = { program, word1, word2, fd, operand(config), NULL };
	int err;

	if (!argv[4])
		return error_set(e, -ENOMEM, "out of memory");
	options->child = argv;
	err = vhost_user_open(out, options, e);
	options->child = NULL;
	free(argv[4]);
	return err;
}

/* ---- one that is there ----------------------------------------------------------------------- */

/* What describes an image is not ours to say of a disk of somebody else's. */
int vhost_user_blk_no_image(const struct device_config *config, struct error *e)
{
	static const char *const keys[] = { "ro",     "format", "backing", "cache",
					    "engine", "serial", "iothread" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (device_config_given(config, keys[i]))
			return error_set(e, -EINVAL,
					 "%s= is for an image; who serves this target has its own",
					 keys[i]);
	return 0;
}

static bool is_socket(const char *path)
{
	size_t len = strlen(path);
	struct stat st;

	if (stat(path, &st) == 0)
		return S_ISSOCK(st.st_mode);
	return len > 5 && strcmp(path + len - 5, ".sock") == 0;
}

static int open_user(struct vhost **out, const struct device_config *config, struct error *e)
{
	bool server = device_config_bool(config, "server");
	char name[16];
	struct vhost_user_options options = {
		.name = name,
		.path = config->target,
		.server = server,
		.timeout_ms = (unsigned)device_config_uint(config, "timeout") * 1000,
		.rings = 1,
		.rings_factor = 1,
		.queue_size = (uint16_t)device_config_uint(config, "queue-size"),
		.config = true,
		.stateless = true,
	};
	int err;

	snprintf(name, sizeof(name), "blk%u.vhost", config->index % 1000);
	if (!server && !is_socket(config->target)) {
		if (access(config->target, F_OK) < 0)
			return error_set_errno(
				e, -errno,
				"\"%s\" is no image, socket, naa.NAME (vhost-scsi) or "
				"/dev/vhost-vdpa-N (vDPA)",
				config->target);
		options.path = NULL;
		return open_child(out, config, &options, e);
	}
	err = vhost_user_blk_no_image(config, e);
	return err ? err : vhost_user_open(out, &options, e);
}

int vhost_user_blk_create(struct device_host *host, const struct device_config *config,
			  struct device **out, struct error *e)
{
	struct vhost_generic what = {
		.id = VIRTIO_ID_BLOCK,
		.features = FEATURES,
		.nqueues = 1,
		.config_len = CONFIG_LEN,
		.fix_config = fix_config,
	};
	struct vhost *backend = NULL;
	int err = open_user(&backend, config, e);

	if (err)
		return err;
	if (device_config_given(config, "queues"))
		what.nqueues = (unsigned)device_config_uint(config, "queues");
	if (what.nqueues == 1)
		what.features &= ~VIRTIO_BIT(VIRTIO_BLK_F_MQ);
	return vhost_generic_create(host, config, &what, backend, out, e);
}

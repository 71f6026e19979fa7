/*
 * The flags that pass hardware through: --net, --blk, --console and --dev with model vfio. One way
 * for all of them; the class only says which PCI class the function must have. In: a parsed flag.
 * Out: a device of the machine.
 */
#include <stddef.h>

#include "devices/registry.h"
#include "devices/vfio/function.h"
#include "vmm/log.h"

static int create(struct device_host *host, const struct device_config *config, struct device **out,
		  struct error *e)
{
	enum vfio_iommu_mode mode = (enum vfio_iommu_mode)device_config_uint(config, "iommu");
	struct vfio_device *vd;
	struct vfio_autobind bound = { .name = "" };
	struct vfio_node node;
	char text[64];
	int err = vfio_node_find(NULL, config->target, &node, e);

	if (!err && device_config_bool(config, "auto-bind") && node.kind == VFIO_PCI)
		err = vfio_autobind_acquire(&vfio_this_host, &node, &bound, e);
	if (!err)
		err = vfio_device_open(host, mode, &node, &bound, &vd, e);
	if (err)
		return err;
	if (node.kind == VFIO_MDEV)
		log_info("%s%u: %s (%s of %s) can do: %s", device_class_name(config->row->class),
			 config->index, node.name, node.type, node.parent,
			 vfio_device_abilities(vd, text, sizeof(text)));
	return vfio_function_create(host, config, vd, device_config_bool(config, "rom"), out, e);
}

static const struct device_key keys[] = {
	{ .name = "iommu",
	  .type = KEY_ENUM,
	  .fallback = "auto",
	  .choices = "auto|group|iommufd",
	  .help = "how the IOMMU is reached: by groups, or by iommufd where the kernel has it" },
	{ .name = "auto-bind",
	  .type = KEY_BOOL,
	  .fallback = "off",
	  .help = "take it from its driver at start and give it back at the end" },
	{ .name = "rom",
	  .type = KEY_BOOL,
	  .fallback = "on",
	  .help = "show the function's expansion ROM" },
	{ .name = NULL },
};

/* What is in the hardware cannot be paused or saved: no capability. */
#define ROW(CLASS, HW, SUMMARY, TARGET)                                                            \
	{                                                                                          \
		.class = (CLASS), .model = MODEL_VFIO, .hw = (HW), .preferred = true,              \
		.summary = (SUMMARY), .target = (TARGET), .target_required = true, .keys = keys,   \
		.create = create,                                                                  \
	}

const struct device_row row_vfio_net =
	ROW(CLASS_NET, "vfio-net", "a network function of the host itself", "BDF|UUID");
const struct device_row row_vfio_blk =
	ROW(CLASS_BLK, "vfio-blk", "a storage function of the host itself", "BDF|UUID");
const struct device_row row_vfio_console =
	ROW(CLASS_CONSOLE, "vfio-console", "serial ports of the host itself", "BDF|UUID");
const struct device_row row_vfio_dev =
	ROW(CLASS_DEV, "vfio-dev", "any PCI function of the host itself", "BDF|UUID");

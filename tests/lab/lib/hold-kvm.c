/*
 * Keeps three VMs that never run, for as long as the lab lives.
 *
 * KVM patches its own code (static keys) when the first VM of a host comes or the last one goes,
 * when a vCPU's local APIC is switched on or off, and when there is a vCPU with no APIC. QEMU's TCG
 * does not keep that safe between CPUs: another CPU can run into the int3 of a patch that is
 * finished already, and the lab's kernel panics ("Oops: int3" in apic_has_pending_timer). With one
 * vCPU of each kind always there the keys never change, so nothing is patched while guests come and
 * go.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define APICBASE_ENABLE (1ull << 11)

/* A VM with one vCPU; the vCPU's descriptor, or -1. */
static int make(int kvm, int irqchip)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || (irqchip && ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0))
		return -1;
	return ioctl(vm, KVM_CREATE_VCPU, 0);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/dev/kvm";

	struct kvm_sregs sregs;
	int kvm = open(path, O_RDWR);
	int software_off, hardware_off, none;

	if (kvm < 0) {
		perror(path);
		return 1;
	}
	software_off = make(kvm, 1); /* as every new APIC is */
	hardware_off = make(kvm, 1);
	none = make(kvm, 0);
	if (software_off < 0 || hardware_off < 0 || none < 0 ||
	    ioctl(hardware_off, KVM_GET_SREGS, &sregs) < 0) {
		perror("hold-kvm: making a VM");
		return 1;
	}
	sregs.apic_base &= ~APICBASE_ENABLE;
	if (ioctl(hardware_off, KVM_SET_SREGS, &sregs) < 0)
		perror("hold-kvm: switching an APIC off");
	if (daemon(0, 0) < 0)
		return 1;
	for (;;)
		pause();
}

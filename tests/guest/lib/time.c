/*
 * Time from the TSC. How fast it counts is told by kvmclock (Linux
 * Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW), so that nothing needs measuring.
 */
#include "guest.h"

#define KVM_CPUID_SIGNATURE 0x40000000
#define KVM_CPUID_FEATURES  0x40000001
#define KVM_FEATURE_CLOCK2  (1u << 3)
#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define KVM_SIGNATURE_EBX   0x4b4d564b /* "KVMK" */
#define KHZ_WHEN_NOT_TOLD   2000000

struct pvclock {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad[2];
};

static struct pvclock clock __attribute__((aligned(64)));
static uint64_t start, khz;

void time_init(void)
{
	uint32_t mul;
	int shift;

	start = rdtsc();
	khz = KHZ_WHEN_NOT_TOLD;
	if (cpuid(KVM_CPUID_SIGNATURE, 0).ebx != KVM_SIGNATURE_EBX ||
	    !(cpuid(KVM_CPUID_FEATURES, 0).eax & KVM_FEATURE_CLOCK2))
		return;
	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	mul = *(volatile uint32_t *)&clock.mul;
	shift = *(volatile uint8_t *)&clock.shift;
	shift -= shift > 127 ? 256 : 0; /* it is signed */
	/* ns = (tsc << shift) * mul >> 32 */
	if (mul) {
		khz = (1000000ull << 32) / mul;
		khz = shift < 0 ? khz << -shift : khz >> shift;
	}
	/* Not again: the host would write there after each change of its clock. */
	wrmsr(MSR_KVM_SYSTEM_TIME, 0);
}

uint64_t tsc_khz(void)
{
	return khz;
}

uint64_t now_us(void)
{
	return (rdtsc() - start) * 1000 / khz;
}

void delay_us(uint64_t us)
{
	uint64_t end = rdtsc() + us * khz / 1000;

	while (rdtsc() < end)
		cpu_relax();
}

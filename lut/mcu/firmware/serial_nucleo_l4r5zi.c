/* ST's NUCLEO-L4R5ZI (UM2179): an STM32L4R5 (RM0432) at 120 MHz, LPUART 1 on PG7 and PG8, which the board's ST-LINK shows to
   the host as a serial port, and the core's own cycle counter (DWT). Compiled and linked by the tests; it has not run on
   hardware. */
#include "serial.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define PWR_CR2 REGISTER(0x40007004)
#define PWR_CR5 REGISTER(0x40007080)
#define RCC_CR REGISTER(0x40021000)
#define RCC_CFGR REGISTER(0x40021008)
#define RCC_PLLCFGR REGISTER(0x4002100c)
#define RCC_AHB2ENR REGISTER(0x4002104c)
#define RCC_APB1ENR1 REGISTER(0x40021058)
#define RCC_APB1ENR2 REGISTER(0x4002105c)
#define RCC_CCIPR REGISTER(0x40021088)
#define FLASH_ACR REGISTER(0x40022000)
#define GPIOG_MODER REGISTER(0x48001800)
#define GPIOG_AFRL REGISTER(0x48001820)
#define GPIOG_AFRH REGISTER(0x48001824)
#define LPUART_CR1 REGISTER(0x40008000)
#define LPUART_BRR REGISTER(0x4000800c)
#define LPUART_ISR REGISTER(0x4000801c)
#define LPUART_ICR REGISTER(0x40008020)
#define LPUART_RDR REGISTER(0x40008024)
#define LPUART_TDR REGISTER(0x40008028)
#define DEMCR REGISTER(0xe000edfc)
#define DWT_CTRL REGISTER(0xe0001000)
#define DWT_CYCCNT REGISTER(0xe0001004)

enum { HSI16_HZ = 16000000, BAUD = 115200 };
const uint32_t CLOCK_HZ = 120000000;

static void change(volatile uint32_t *of, uint32_t mask, uint32_t bits) { *of = (*of & ~mask) | bits; }

/* RM0432, "Dynamic voltage scaling management": above 80 MHz in range 1 boost; the bus runs at half the clock while the
   PLL is switched in, and for 1 us after. */
static void start_clock(void) {
    RCC_CR |= 1u << 8; /* HSI16 on */
    while (!(RCC_CR & 1u << 10)) continue;
    RCC_APB1ENR1 |= 1u << 28; /* the power controller's bus clock */
    (void)RCC_APB1ENR1;
    PWR_CR5 &= ~(1u << 8);               /* R1MODE = 0: boost */
    change(&FLASH_ACR, 0xf, 5);          /* wait states for 100 to 120 MHz */
    while ((FLASH_ACR & 0xf) != 5) continue;
    FLASH_ACR |= 7u << 8;                /* prefetch, instruction and data caches */
    RCC_CR &= ~(1u << 24);
    while (RCC_CR & 1u << 25) continue;
    /* 16 MHz / 2 * 30 / 2 = 120 MHz */
    RCC_PLLCFGR = 2u | (2u - 1) << 4 | 30u << 8 | 1u << 24;
    RCC_CR |= 1u << 24;
    while (!(RCC_CR & 1u << 25)) continue;
    change(&RCC_CFGR, 0xf0, 0x80); /* HPRE: half */
    change(&RCC_CFGR, 3, 3);       /* SW: the PLL */
    while ((RCC_CFGR >> 2 & 3) != 3) continue;
    for (volatile int i = 0; i < 100; i++) continue;
    change(&RCC_CFGR, 0xf0, 0);
}

static void start_line(void) {
    RCC_AHB2ENR |= 1u << 6; /* port G */
    (void)RCC_AHB2ENR;
    PWR_CR2 |= 1u << 9; /* IOSV: PG2 to PG15 have a supply of their own */
    change(&GPIOG_MODER, 0xfu << 14, 0xau << 14); /* PG7, PG8: alternate function */
    change(&GPIOG_AFRL, 0xfu << 28, 8u << 28);
    change(&GPIOG_AFRH, 0xfu, 8u);
    change(&RCC_CCIPR, 3u << 10, 2u << 10); /* clocked by HSI16 */
    RCC_APB1ENR2 |= 1;
    (void)RCC_APB1ENR2;
    LPUART_CR1 = 0;
    LPUART_BRR = (uint32_t)((256ull * HSI16_HZ + BAUD / 2) / BAUD);
    LPUART_CR1 = 1u | 1u << 2 | 1u << 3; /* on, receive, send */
}

void serial_start(void) {
    start_clock();
    start_line();
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1;
}

int serial_get(uint8_t *byte) {
    if (LPUART_ISR & 1u << 3) LPUART_ICR = 1u << 3; /* a byte was lost: the checksum will say so */
    if (!(LPUART_ISR & 1u << 5)) return 0;
    *byte = (uint8_t)LPUART_RDR;
    return 1;
}

void serial_put(uint8_t byte) {
    while (!(LPUART_ISR & 1u << 7)) continue;
    LPUART_TDR = byte;
}

uint32_t cycle_count(void) { return DWT_CYCCNT; }

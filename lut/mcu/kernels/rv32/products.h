/* Products and sums, for assembly. Where they are used, a product takes the place of a factor that is no longer needed, and
   two instructions at least lie between it and its sum: cores that multiply in several stages do not wait for it. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#define PRODUCT(to, w, x) "mul " to ", " w ", " x "\n"
#define ADDED(sum, product) "add %[" sum "], %[" sum "], " product "\n"
#endif

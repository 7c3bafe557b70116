# Compiler flags for every target. Files named *_avx2.cpp, *_avx512*.cpp get their ISA in
# Modules.cmake; everything else stays at x86-64-v2 so that one binary runs anywhere.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -fno-strict-aliasing)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these inside Boost and libstdc++ when optimising (GCC bug 105329 and kin).
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-psabi
                      -Wno-array-bounds -Wno-stringop-overread -Wno-mismatched-new-delete
                      -Wno-dangling-pointer -Wno-uninitialized -Wno-free-nonheap-object)
endif()
if(BATON_WERROR)
  add_compile_options(-Werror)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-march=x86-64-v2)
endif()
# Token streams must not depend on how a compiler contracts floats: kernels ask for FMA by name.
add_compile_options(-ffp-contract=off)

if(BATON_SANITIZE)
  string(REPLACE ";" "," _list "${BATON_SANITIZE}")
  add_compile_options(-fsanitize=${_list} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${_list})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # Its mark before each function breaks the assembling of coroutines ("difference across sections").
    add_compile_options(-fno-sanitize=function)
  endif()
  if("thread" IN_LIST BATON_SANITIZE)
    # TSan cannot follow fences, and GCC warns of them. Asio needs none around handlers, which its
    # locks order. Its reference counts are Boost's then, which acquire in the decrement itself: with
    # std::atomic they acquire by a fence, and every last release would look like a race.
    add_compile_definitions(BOOST_ASIO_DISABLE_FENCED_BLOCK BOOST_ASIO_DISABLE_STD_ATOMIC)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      add_compile_options(-Wno-tsan)
    endif()
  endif()
endif()

if(BATON_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage that guides the fuzzer
endif()

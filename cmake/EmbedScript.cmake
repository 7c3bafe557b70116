# Run at build time by baton_embed: writes the bytes of IN as a C++ array.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
string(REGEX REPLACE "(('[^']+',)('[^']+',)('[^']+',)('[^']+',)('[^']+',)('[^']+',)('[^']+',)('[^']+',))" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <string_view>\nnamespace baton::web {\nextern const std::string_view ${SYMBOL};\nstatic const char kBytes[] = {\n${bytes}};\nconst std::string_view ${SYMBOL}(kBytes, sizeof kBytes);\n}  // namespace baton::web\n")

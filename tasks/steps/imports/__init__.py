"""What comes from another program, in a file of lines (docs/import.md): read, checked whole, booked in batches.

columns   what a file may say, and the example of `unwind import --template`
lines     bytes -> numbered lines of cells; values: cells -> exact values, or what is wrong with them
rows      a line's cells -> one row with its reference and its content's digest
seen      what a file named already, kept on disk
check     what the books have against rows
book      rows -> the books, in one transaction, with the references that say so
run       a file, from its first line to its last: safe to kill at any point and to run again
"""

// Runs the cases of a WG row one after the other without a reset, and prints for each: cycles, operations, sum.
module wg_bench;
  parameter CASES = 1, WORDS = 1, VALUES = 1, EMPTY = 1;
  reg [63:0] bitmaps [0:WORDS-1];        // spikes in the low half, non-zero gradients in the high half
  reg signed [15:0] values [0:VALUES-1]; // lists of the non-zero gradients
  reg [95:0] cases [0:CASES-1];          // words, place of its bitmaps, of its list

  reg clk = 0, start = 0;
  reg [31:0] words, word_base, value_base, cycles;
  wire [15:0] address, value_address;
  reg [63:0] data;
  reg signed [15:0] value;
  wire [31:0] operations;
  wire signed [31:0] sum;
  wire busy;
  integer c;

  wg_row #(.EMPTY(EMPTY)) row (
    .clk(clk), .start(start), .words(words[15:0]), .address(address), .spikes(data[31:0]), .nonzeros(data[63:32]),
    .value_address(value_address), .value(value), .busy(busy), .operations(operations), .sum(sum));

  always #1 clk = ~clk;

  always @(posedge clk) begin
    data <= bitmaps[word_base + address];
    value <= values[value_base + value_address];
    cycles <= start ? 0 : cycles + busy;
  end

  initial begin
    $readmemh("bitmaps.hex", bitmaps);
    $readmemh("values.hex", values);
    $readmemh("cases.hex", cases);
    for (c = 0; c < CASES; c = c + 1) begin
      @(negedge clk) {value_base, word_base, words} = cases[c];
      start = 1;
      @(negedge clk) start = 0;
      while (busy) @(negedge clk);
      $display("%0d %0d %0d", cycles, operations, sum);
    end
    $finish;
  end
endmodule

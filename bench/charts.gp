# charts.gp - draws a chart of the benches; bench/run.sh calls it. Set by -e:
#
#   data     the file with the figures
#   image    the SVG file to write
#   kind     one: rates over a number in steps of two, the rate from 0 on;
#            both: rates over sizes, both logarithmic;
#            bars: three percentiles of each contestant
#   heading, x_says, y_says
set terminal svg size 800,500 dynamic font 'sans-serif,13' background rgb 'white'
set output image
set title heading
set xlabel x_says
set ylabel y_says
set grid ytics lc rgb '#dddddd'
set border 3 lc rgb '#666666'
set tics nomirror
set key outside right top
set linetype 9 lc rgb '#7f7f7f' lw 1
set linetype 10 lc rgb '#8c564b' lw 1
set linetype 11 lc rgb '#17becf' lw 1

if (kind eq 'bars') {
    set logscale y
    set style data histograms
    set style histogram clustered gap 1
    set style fill solid 0.9 noborder
    set boxwidth 0.9
    set xtics rotate by -30
    set yrange [1:*]
    plot data using 2:xtic(1) title 'p50' lc rgb '#1b6ca8', '' using 3 title 'p99' lc rgb '#e08e2b', \
        '' using 4 title 'p99.9' lc rgb '#b03a48'
} else {
    stats data using 1:2 nooutput
    blocks = STATS_blocks
    set logscale x 2
    set format y '%.0s%c'
    if (kind eq 'both') {
        set logscale y
        set xtics ('8' 8, '64' 64, '256' 256, '1 Ki' 1024, '4 Ki' 4096, '16 Ki' 16384, '64 Ki' 65536, \
            '256 Ki' 262144, '1 Mi' 1048576)
    } else {
        set yrange [0:*]
    }
    plot for [i = 0:blocks - 1] data index i using 1:2:3:4 with yerrorbars notitle lc i + 1 pt 0, \
        for [i = 0:blocks - 1] data index i using 1:2 with linespoints title columnheader(1) \
            lc i + 1 pt i + 4 ps 0.6 lw (i == 0 ? 3 : 1.5)
}

using System.Diagnostics;
using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Time.Testing;

namespace Shop.Tests;

/// <summary>The tour: what each incident shows, what is printed, and how it ends.</summary>
public sealed class TourTests : IDisposable
{
    private static readonly TourSize Small = new(new TourLoad(Users: 12, OrdersEach: 3, Pace: TimeSpan.FromMilliseconds(50)), TimeSpan.FromSeconds(2), Webhooks: 2);

    private readonly string _folder = Directory.CreateTempSubdirectory("shop-tests-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task An_outage_reaches_users_less_and_payments_less_with_the_toolkit()
    {
        var load = new TourLoad(Users: 16, OrdersEach: 6, Pace: TimeSpan.FromMilliseconds(50));
        string[] settings = ["--OutboundPolicies:payments:Budget:Total=00:00:01", "--OutboundPolicies:payments:RetryBudget:RetryRatio=1"];
        using var progress = new Progress(TextWriter.Null);

        Dictionary<string, Outage.Seen> with = await Outage.PlayAsync(toolkit: true, progress, load, settings, TestContext.Current.CancellationToken);
        Dictionary<string, Outage.Seen> without = await Outage.PlayAsync(toolkit: false, progress, load, settings, TestContext.Current.CancellationToken);

        with["healthy"].Statuses.Should().Be("201: 96");
        without.Values.Should().OnlyContain(seen => seen.PaymentsCalls == 96, "without retries each order is one call");
        without["healthy"].Statuses.Should().Be("201: 96");
        with["30 % errors"].Success.Should().BeGreaterThan(without["30 % errors"].Success, "retries hide most errors");
        with["outage"].PaymentsCalls.Should().BeLessThan(96, "the circuit is open after the first ten");
        with["outage"].Statuses.Should().Contain("503: ");
        without["outage"].Statuses.Should().Be("502: 96");
        with["outage"].Answers.Count(answer => answer.SaysWhen).Should().BeGreaterThan(0);
        without["outage"].Answers.Should().NotContain(answer => answer.SaysWhen);
        with["hang"].PaymentsCalls.Should().BeLessThan(96);
        with["hang"].Percentile(0.5).Should().BeLessThan(without["hang"].Percentile(0.5));
        without["hang"].Percentile(0.5).Should().BeGreaterThanOrEqualTo(TimeSpan.FromSeconds(1));
        without["hang"].Statuses.Should().Be("504: 96");
        without["back again"].Statuses.Should().Be("201: 96");
    }

    [Fact]
    public void Of_the_two_times_that_payments_is_back_the_worse_one_is_told_with_what_was_paid_in_it()
    {
        Outage.Answer first = Answer(HttpStatusCode.Created, 40), late = Answer(HttpStatusCode.Created, 1202), refused = Answer(HttpStatusCode.ServiceUnavailable, 5);
        Outage.Seen better = new([first, first, refused], 2), worse = new([refused, late, refused], 1), none = new([refused], 0);

        Outage.Return(new() { ["back"] = better, ["back again"] = worse }).Should().Be("1202 ms; 1");
        Outage.Return(new() { ["back"] = worse, ["back again"] = better }).Should().Be("1202 ms; 1");
        Outage.Return(new() { ["back"] = better, ["back again"] = none }).Should().Be("never; 0");

        static Outage.Answer Answer(HttpStatusCode status, int at) => new(status, false, TimeSpan.FromMilliseconds(3), TimeSpan.FromMilliseconds(at));
    }

    [Fact]
    public async Task Under_twice_what_payments_can_do_most_of_it_is_done_in_time_with_the_toolkit_and_for_nobody_without()
    {
        Overload.Seen with = await Overload.PlayAsync(toolkit: true, TimeSpan.FromSeconds(5), TestContext.Current.CancellationToken);
        Overload.Seen without = await Overload.PlayAsync(toolkit: false, TimeSpan.FromSeconds(5), TestContext.Current.CancellationToken);

        with.Orders.Should().Be(500);
        (with.Paid + with.Refused + with.Failed + with.Left).Should().Be(500);
        with.Paid.Should().BeGreaterThan(3 * without.Paid / 2);
        with.Refused.Should().BeGreaterThan(0, "who cannot be served is told");
        without.Refused.Should().Be(0, "nothing there refuses: what is answered late is an error");
        (without.Paid + without.Failed + without.Left).Should().Be(500);
        with.Left.Should().BeLessThan(without.Left);
        with.ForNobody.Should().BeLessThan(without.ForNobody);
    }

    [Fact]
    public async Task A_customer_who_hangs_up_has_one_order_with_the_toolkit_and_three_without_and_older_orders_are_not_counted()
    {
        (int Orders, int Charges) with = await HangUp.PlayAsync(plain: false, TestContext.Current.CancellationToken);
        (int Orders, int Charges) without = await HangUp.PlayAsync(plain: true, TestContext.Current.CancellationToken);
        await using TourShop used = await TourShop.StartAsync(toolkit: true, [$"--data={_folder}"], TestContext.Current.CancellationToken);
        using HttpResponseMessage order = await used.OrderAsync(TestContext.Current.CancellationToken);

        Func<Task> play = () => HangUp.PlayAsync(used, TestContext.Current.CancellationToken);

        with.Should().Be((1, 1));
        without.Should().Be((3, 3));
        await play.Should().ThrowAsync<InvalidOperationException>().WithMessage("*must have no orders when it starts, but has 1, and 1 charges*");
    }

    [Fact]
    public async Task A_dead_endpoint_delays_the_others_less_with_the_toolkit()
    {
        DeadEndpoint.Delays with = await DeadEndpoint.PlayAsync(toolkit: true, orders: 3, TestContext.Current.CancellationToken);
        DeadEndpoint.Delays without = await DeadEndpoint.PlayAsync(toolkit: false, orders: 3, TestContext.Current.CancellationToken);

        with.Median.Should().BeLessThan(without.Median!.Value);
        with.Worst.Should().BeLessThan(without.Worst!.Value);
        without.Worst.Should().BeGreaterThan(TimeSpan.FromSeconds(4), "three orders wait for three attempts of half a second each");
    }

    [Fact]
    public async Task Two_shops_hold_one_limit_on_Redis_and_twice_the_limit_without()
    {
        await using RedisServer redis = await RedisServer.StartAsync();

        int with = 0;
        TimeSpan elapsed = await RealTime.MeasureAsync(async () => with = await SharedLimit.AdmittedAsync(redis.ConnectionString, TestContext.Current.CancellationToken));
        int without = await SharedLimit.AdmittedAsync(redis: null, TestContext.Current.CancellationToken);

        with.Should().BeInRange(SharedLimit.Limit, SharedLimit.Limit + 1 + (int)elapsed.TotalSeconds);
        without.Should().BeGreaterThanOrEqualTo(2 * SharedLimit.Limit);
    }

    [Fact]
    public async Task No_client_of_the_tour_asks_a_proxy()
    {
        IWebProxy usual = HttpClient.DefaultProxy;
        HttpClient.DefaultProxy = new WebProxy($"http://127.0.0.1:{RedisServer.FreePort()}");
        try
        {
            Overload.Seen overload = await Overload.PlayAsync(toolkit: true, TimeSpan.FromSeconds(0.5), TestContext.Current.CancellationToken);
            int ours = await Chain.RequestsAtTheBottomAsync(toolkit: true, TestContext.Current.CancellationToken);
            int standard = await Chain.RequestsAtTheBottomAsync(toolkit: false, TestContext.Current.CancellationToken);
            TimeSpan work = await Chain.WorkForNobodyAsync(toolkit: false, TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(10), TimeProvider.System);
            await using TourShop shop = await TourShop.StartAsync(toolkit: true, [], TestContext.Current.CancellationToken);
            await shop.TellPaymentsAsync(new Fault(FaultMode.Failing), TestContext.Current.CancellationToken);
            using HttpResponseMessage orders = await shop.Users.GetAsync("orders", TestContext.Current.CancellationToken);

            overload.Paid.Should().BeGreaterThan(0);
            ours.Should().BeGreaterThan(0);
            standard.Should().Be(64);
            work.Should().BeGreaterThan(TimeSpan.Zero);
            (await shop.ChargesAsync(TestContext.Current.CancellationToken)).Charged.Should().Be(0);
            orders.StatusCode.Should().Be(HttpStatusCode.OK);
        }
        finally
        {
            HttpClient.DefaultProxy = usual;
        }
    }

    [Fact]
    public async Task A_Redis_that_is_killed_during_the_tour_leaves_no_number_and_the_tour_fails()
    {
        await using RedisServer redis = await RedisServer.StartAsync();
        string file = Path.Combine(_folder, "tour.md");
        using var output = new Listening("without the toolkit: a dead webhook endpoint", redis.Kill);
        using var progress = new Progress(output);
        var least = new TourSize(new TourLoad(Users: 2, OrdersEach: 1, Pace: TimeSpan.Zero), TimeSpan.FromSeconds(0.5), Webhooks: 1);

        Func<Task> play = () => Tour.RunAsync(new TourOptions(redis.ConnectionString, file), progress, least, TestContext.Current.CancellationToken);

        await play.Should().ThrowAsync<InvalidOperationException>().WithMessage("One limit over two shops was asked for*Redis*does not answer*");
        output.ToString().Should().Contain("one webhook endpoint is dead").And.Contain("Not played: one limit over two shops. Redis does not answer.").And.NotContain("they admit").And.NotContain("admitted of");
        (await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).Should().Contain("Not played: one limit").And.NotContain("admitted of");
    }

    [Fact]
    public async Task Shops_whose_Redis_is_silent_admit_what_nobody_takes_for_a_shared_limit()
    {
        int admitted = await SharedLimit.AdmittedAsync($"127.0.0.1:{RedisServer.FreePort()}", TestContext.Current.CancellationToken);

        admitted.Should().BeGreaterThanOrEqualTo(2 * SharedLimit.Limit);
    }

    [Fact]
    public async Task In_a_pipe_the_tour_prints_lines_and_one_table_and_writes_the_same_table_as_Markdown()
    {
        await using RedisServer redis = await RedisServer.StartAsync();
        string file = Path.Combine(_folder, "tour.md");
        var output = new StringWriter();
        using var progress = new Progress(output);

        await Tour.RunAsync(new TourOptions($"{redis.ConnectionString},password=hush,user=default", file), progress, Small, TestContext.Current.CancellationToken);

        string[] incidents =
        [
            "payments fails 30 % of the calls", "payments fails all calls", "payments hangs", "payments is back", "overload: twice what payments can do", "retry storm over four layers",
            "a slow service in a chain of three", "a client hangs up during a payment, and repeats", "one webhook endpoint is dead", "one limit, two shops",
        ];
        string[] lines = output.ToString().ReplaceLineEndings("\n").Split('\n');
        string[] table = [.. lines.SkipWhile(line => !line.StartsWith("incident ", StringComparison.Ordinal)).Skip(1).TakeWhile(line => line.Length > 0 && !line.StartsWith("Written", StringComparison.Ordinal))];
        string markdown = await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken);
        string[] rows = [.. markdown.Split('\n').Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Skip(1)];
        lines.Should().Contain("with the toolkit: hang").And.Contain("without the toolkit: overload");
        output.ToString().Should().NotContainAny("\e", "\r", "hush");
        table.Should().HaveCount(incidents.Length);
        table.Zip(incidents).Should().OnlyContain(pair => pair.First.StartsWith(pair.Second, StringComparison.Ordinal));
        rows.Zip(incidents).Should().OnlyContain(pair => pair.First.StartsWith($"| {pair.Second} |", StringComparison.Ordinal));
        rows.Should().HaveCount(incidents.Length);
        rows.Select(Cells).Zip(table).Should().OnlyContain(pair => pair.First.All(cell => pair.Second.Contains(cell, StringComparison.Ordinal)), "both tell of one run");
        markdown.Should().StartWith("# ").And.Contain($"{Environment.ProcessorCount} cores").And.Contain(RuntimeInformation.FrameworkDescription)
            .And.Contain("dotnet run --project samples/Shop -- --tour --redis CONNECTION").And.NotContain("hush");
        lines.Should().Contain($"Written to {file}.");

        new Summary([.. rows.Select(Cells).Select(cells => new Incident(cells[0], cells[1], cells[2], cells[3]))], []).Text(80).ReplaceLineEndings("\n").Split('\n')
            .Should().OnlyContain(line => line.Length <= 80, "80 columns suffice");

        static string[] Cells(string row) => [.. row.Trim('|', ' ').Split(" | ")];
    }

    [Fact]
    public void What_stands_in_a_cell_stays_in_it()
    {
        var summary = new Summary([new Incident("a|b\r\n| c |", "<b>*x*</b> `code` [link](http://x) &amp; #_~", @"\|", "1; 2")], ["note <i>"]);

        string[] lines = summary.Markdown("command", new DateTimeOffset(2026, 2, 3, 4, 5, 6, TimeSpan.FromHours(1))).ReplaceLineEndings("\n").Split('\n');

        lines.Should().ContainSingle(line => line.StartsWith("| a", StringComparison.Ordinal))
            .Which.Should().Be(@"| a\|b \| c \| | \<b\>\*x\*\</b\> \`code\` \[link\](http://x) \&amp; \#\_\~ | \\\| | 1; 2 |");
        lines.Should().Contain(@"note \<i\>").And.Contain(line => line.StartsWith("Measured on 2026-02-03 03:05 UTC: ", StringComparison.Ordinal)).And.ContainInConsecutiveOrder("```sh", "command", "```");
    }

    [Fact]
    public void The_table_has_columns_as_wide_as_they_need_to_be_and_says_what_was_not_played()
    {
        var summary = new Summary([new Incident("a long incident", "x", "1", "2"), new Incident("b", "what", "100 ms", "3")], ["Not played: c"]);

        summary.Text().ReplaceLineEndings("\n").Should().Be("""
            incident          measured   with     without
            a long incident   x          1        2
            b                 what       100 ms   3

            Not played: c
            """.ReplaceLineEndings("\n"));
        (summary with { Notes = [] }).Text().Should().EndWith("3");
    }

    [Theory]
    [InlineData(80, false)]
    [InlineData(89, false)]
    [InlineData(90, true)]
    [InlineData(200, true)]
    [InlineData(0, true)]
    public void On_a_terminal_that_is_narrower_than_the_table_each_cell_has_a_line(int width, bool inColumns)
    {
        var summary = new Summary([new Incident("a long incident, so that it does not fit", "x; what is measured", "1; 2", "3 (.NET's handler)"), new Incident("b", "y", "4", "never")], ["Not played: c"]);

        string text = summary.Text(width).ReplaceLineEndings("\n");

        text.Should().Be((inColumns ? """
            incident                                   measured              with   without
            a long incident, so that it does not fit   x; what is measured   1; 2   3 (.NET's handler)
            b                                          y                     4      never

            Not played: c
            """ : """
            a long incident, so that it does not fit
              measured   x; what is measured
              with       1; 2
              without    3 (.NET's handler)
            b
              measured   y
              with       4
              without    never

            Not played: c
            """).ReplaceLineEndings("\n"));
    }

    [Fact]
    public void On_a_terminal_that_wants_lines_nothing_is_drawn_over_and_its_width_is_known()
    {
        var output = new StringWriter();
        using (var progress = new Progress(output, terminalWidth: 80, inPlace: false))
        {
            progress.Step("first");
            progress.Say("said");
            progress.Width.Should().Be(80);
        }

        output.ToString().ReplaceLineEndings("\n").Should().Be("first\nsaid\n");
    }

    [Fact]
    public void On_a_terminal_one_line_updates_in_place_and_what_is_said_stays()
    {
        var time = new FakeTimeProvider();
        var output = new StringWriter();
        using (var progress = new Progress(output, terminalWidth: 20, time))
        {
            progress.Step("first");
            time.Advance(TimeSpan.FromSeconds(1));
            progress.Step("a step that is longer than the line");
            progress.Say("said");
            time.Advance(TimeSpan.FromSeconds(1));
            progress.Step("last");
        }

        output.ToString().Replace(Environment.NewLine, "\n", StringComparison.Ordinal).Should().Be("\r\e[Kfirst (0 s)\r\e[Kfirst (1 s)\r\e[Ka step that is long\r\e[Ksaid\n\r\e[Klast (0 s)\r\e[K");
    }

    [Theory]
    [InlineData("--tour", null, null)]
    [InlineData("--tour --redis localhost:6379 --markdown tour.md", "localhost:6379", "tour.md")]
    [InlineData("--markdown=a=b.md --redis=h:1,password=p=q --tour", "h:1,password=p=q", "a=b.md")]
    [InlineData("--markdown a.md --tour", null, "a.md")]
    public void The_tour_is_told_where_Redis_is_and_where_to_write(string args, string? redis, string? markdown) =>
        TourOptions.From(args.Split(' ')).Should().Be(new TourOptions(redis, markdown));

    [Theory]
    [InlineData("--markdown tour.md", "*--tour*")]
    [InlineData("--markdown=tour.md --urls http://127.0.0.1:0", "*--tour*")]
    [InlineData("--tour --markdown", "*--markdown must be followed by*")]
    [InlineData("--tour --markdown=", "*--markdown must be followed by*")]
    [InlineData("--tour --redis", "*--redis must be followed by*")]
    [InlineData("--tour --postgres Host=localhost", "*was given --postgres*")]
    [InlineData("--tour tour.md", "*was given tour.md*")]
    public void What_the_tour_cannot_follow_is_refused(string args, string message)
    {
        Action parse = () => TourOptions.From(args.Split(' '));

        parse.Should().Throw<ArgumentException>().WithMessage(message);
    }

    [Fact]
    public void Without_a_word_of_it_no_tour_is_played() => TourOptions.From(["--urls", "http://127.0.0.1:0"]).Should().BeNull();

    [Theory]
    [InlineData("")]
    [InlineData("not-there/tour.md")]
    public async Task A_file_that_cannot_be_written_is_refused_before_anything_is_played(string path)
    {
        string file = Path.Combine(_folder, path);
        using Process tour = Start("dotnet", [Dll, "--tour", "--markdown", file]);
        try
        {
            await RealTime.MeasureAsync(() => tour.WaitForExitAsync());

            tour.ExitCode.Should().Be(1);
            (await tour.StandardError.ReadToEndAsync()).Trim().Should().StartWith("--markdown must name a file that can be written").And.Contain(file).And.NotContain("\n");
            (await tour.StandardOutput.ReadToEndAsync()).Should().BeEmpty();
            Directory.EnumerateFileSystemEntries(_folder).Should().BeEmpty();
        }
        finally
        {
            tour.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public async Task A_Redis_that_does_not_answer_is_refused_before_anything_is_played_and_its_password_is_not_told()
    {
        var output = new StringWriter();
        using var progress = new Progress(output);

        Func<Task> play = () => Tour.RunAsync(new TourOptions($"127.0.0.1:{RedisServer.FreePort()},password=hush", null), progress, Small, TestContext.Current.CancellationToken);

        (await play.Should().ThrowAsync<ArgumentException>()).WithMessage("--redis must name a Redis that answers*").And.Message.Should().NotContain("hush");
        output.ToString().Should().BeEmpty();
    }

    [Fact]
    public async Task Told_to_stop_the_tour_ends_with_130_and_leaves_nothing()
    {
        string file = Path.Combine(_folder, "tour.md");
        using Process tour = Start("dotnet", [Dll, "--tour", "--markdown", file]);
        try
        {
            await ReadUntilAsync(tour, "with the toolkit: healthy", TimeSpan.FromMinutes(3));
            Task<string> rest = tour.StandardOutput.ReadToEndAsync();
            Task<string> error = tour.StandardError.ReadToEndAsync();

            using Process kill = Process.Start("sh", ["-c", $"kill -INT {tour.Id}"]);
            TimeSpan elapsed = await RealTime.MeasureAsync(() => tour.WaitForExitAsync());

            tour.ExitCode.Should().Be(130);
            (await error).Trim().Should().Be("Stopped.");
            (await rest).Should().NotContain("\e");
            elapsed.Should().BeLessThan(TimeSpan.FromSeconds(20), "what hangs would hang for much longer");
            Directory.EnumerateFileSystemEntries(_folder).Should().BeEmpty();
        }
        finally
        {
            tour.Kill(entireProcessTree: true);
        }
    }

    [Theory]
    [InlineData("outage", 700)]
    [InlineData("overload", 700)]
    [InlineData("chain", 700)]
    [InlineData("client hangs up", 700)]
    [InlineData("dead endpoint", 700)]
    [InlineData("shared limit", 100)]
    public async Task Stopped_in_the_middle_each_incident_ends_and_leaves_nothing(string incident, int afterMs)
    {
        await using RedisServer redis = await RedisServer.StartAsync();
        string? usual = Environment.GetEnvironmentVariable("TMPDIR");
        Environment.SetEnvironmentVariable("TMPDIR", _folder);
        using var progress = new Progress(TextWriter.Null);
        using var stop = new CancellationTokenSource();
        try
        {
            Func<Task> play = incident switch
            {
                "outage" => () => Outage.PlayAsync(progress, TourSize.Whole.Load, stop.Token),
                "overload" => () => Overload.PlayAsync(progress, TourSize.Whole.Overload, stop.Token),
                "chain" => () => Chain.PlayAsync(progress, stop.Token),
                "client hangs up" => () => HangUp.PlayAsync(progress, stop.Token),
                "dead endpoint" => () => DeadEndpoint.PlayAsync(progress, TourSize.Whole.Webhooks, stop.Token),
                _ => () => SharedLimit.PlayAsync(progress, redis.ConnectionString, stop.Token),
            };
            Task played = play();
            await Task.WhenAny(played, Task.Delay(TimeSpan.FromMilliseconds(afterMs), TimeProvider.System, TestContext.Current.CancellationToken));

            await stop.CancelAsync();
            TimeSpan elapsed = await RealTime.MeasureAsync(() => Task.WhenAny(played));

            played.IsCanceled.Should().BeTrue($"it was stopped, but: {played.Exception}");
            elapsed.Should().BeLessThan(TimeSpan.FromSeconds(20));
            Directory.EnumerateFileSystemEntries(_folder).Should().BeEmpty();
        }
        finally
        {
            Environment.SetEnvironmentVariable("TMPDIR", usual);
        }
    }

    [Theory]
    [InlineData("xterm", null, true)]
    [InlineData("xterm", "1", false)]
    [InlineData("dumb", null, false)]
    public async Task On_a_terminal_progress_updates_in_place_unless_the_user_wants_none_of_it_and_Ctrl_C_ends_it(string term, string? noColor, bool inPlace)
    {
        using Process tour = Start("script", ["--quiet", "--return", "--command", $"dotnet '{Dll}' --tour", "/dev/null"], term, noColor);
        try
        {
            string seen = await ReadUntilAsync(tour, "with the toolkit: getting ready", TimeSpan.FromMinutes(3));
            Task<string> rest = tour.StandardOutput.ReadToEndAsync();

            await tour.StandardInput.WriteAsync('\x03');
            await tour.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
            await RealTime.MeasureAsync(() => tour.WaitForExitAsync());

            tour.ExitCode.Should().Be(130);
            (seen + await rest).Contains("\r\e[Kwith the toolkit: getting ready (0 s)", StringComparison.Ordinal).Should().Be(inPlace);
            (seen + await rest).Contains("\e[K", StringComparison.Ordinal).Should().Be(inPlace, "what else the runtime sends to a terminal is its own");
            (seen + await rest).Should().Contain("Stopped.");
            Directory.EnumerateFileSystemEntries(_folder).Should().BeEmpty();
        }
        finally
        {
            tour.Kill(entireProcessTree: true);
        }
    }

    /// <summary>Does something when a line is written.</summary>
    private sealed class Listening(string line, Action heard) : StringWriter
    {
        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value == line)
            {
                heard();
            }
        }
    }

    private static string Dll => Path.Combine(AppContext.BaseDirectory, "Shop.dll");

    /// <summary>With the folder as that of temporary files, where only the runtime's own are.</summary>
    private Process Start(string program, string[] args, string term = "dumb", string? noColor = null)
    {
        var start = new ProcessStartInfo(program, args) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        (start.Environment["TMPDIR"], start.Environment["DOTNET_EnableDiagnostics"], start.Environment["TERM"], start.Environment["NO_COLOR"]) = (_folder, "0", term, noColor);
        return Process.Start(start)!;
    }

    private static async Task<string> ReadUntilAsync(Process process, string text, TimeSpan limit)
    {
        var seen = new StringBuilder();
        char[] buffer = new char[1024];
        using var stop = new CancellationTokenSource(limit, TimeProvider.System);
        while (!seen.ToString().Contains(text, StringComparison.Ordinal))
        {
            int read = await process.StandardOutput.ReadAsync(buffer, stop.Token);
            seen.Append(buffer, 0, read > 0 ? read : throw new InvalidOperationException($"It ended after {seen}"));
        }

        return seen.ToString();
    }
}

using System.Diagnostics;
using System.Reflection;

namespace Worker.Tests;

/// <summary>The program itself: what it prints, how it ends, and what it is made of.</summary>
public sealed class ProgramTests : IDisposable
{
    private readonly DataFolder _folder = new(null);

    [Fact]
    public async Task The_tour_prints_what_came_of_each_incident_and_exits_with_0()
    {
        (int code, string output, string error) = await RunAsync("--tour");

        error.Should().BeEmpty();
        code.Should().Be(0, output);
        output.Should().Contain("fails ").And.Contain("hangs ").And.Contain("sends, and does not answer ")
            .And.Contain("Sent:            240 of 240, 0 of them more than once")
            .And.Contain("0 too many")
            .And.Contain("Dead letters:    2");
    }

    [Fact]
    public async Task A_worker_that_is_killed_loses_nothing_and_the_next_one_sends_nothing_again()
    {
        var provider = new SmsProvider(Path.Combine(_folder.Path, "provider.db"), TimeProvider.System);
        using (Process killed = Start("--forever", "--data", _folder.Path))
        {
            await RealTime.UntilAsync(async () => (await provider.SentAsync()).Count >= 30, "the worker is at work");
            killed.Kill();
            await killed.WaitForExitAsync();
        }

        (int code, string output, string error) = await RunAsync("--tour", "--data", _folder.Path);

        error.Should().BeEmpty();
        code.Should().Be(0, output);
        output.Should().Contain(" messages are left from the last run.");
        List<Reminder> sent = await provider.SentAsync();
        sent.Should().HaveCount(480).And.OnlyHaveUniqueItems();
        (await new MessageQueue(Path.Combine(_folder.Path, "worker.db")).DeadLettersAsync()).Should().HaveCount(4);
    }

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task A_worker_that_is_told_to_stop_says_what_is_left_and_exits_with_0(string signal)
    {
        using Process worker = Start("--forever");
        try
        {
            (await worker.StandardOutput.ReadLineAsync()).Should().StartWith("240 reminders are published");
            using Process kill = Process.Start("sh", ["-c", $"kill -{signal} {worker.Id}"]);
            (int code, string output, string error) = await EndAsync(worker);

            error.Should().BeEmpty();
            code.Should().Be(0);
            output.Should().MatchRegex("Stopped\\. [0-9]+ messages are in the queue");
        }
        finally
        {
            worker.Kill();
        }
    }

    [Theory]
    [InlineData("--froever", "--froever")]
    [InlineData("--Wroker:Consumers=2", "must be --tour, --forever, --data FOLDER or --Section:name=value, but one is --Wroker:Consumers=2.")]
    [InlineData("--Worker:Consumer=2", "but one is --Worker:Consumer=2.")]
    [InlineData("--CircuitBreakers:other:ConsecutiveFailures=2", "but one is --CircuitBreakers:other:ConsecutiveFailures=2.")]
    [InlineData("--tuor=1", "but one is --tuor=1.")]
    [InlineData("--Worker:Consumers", "but one is --Worker:Consumers.")]
    [InlineData("/Worker:Consumers=2", "but one is /Worker:Consumers=2.")]
    [InlineData("positional", "but one is positional.")]
    [InlineData("--tour 2", "but one is 2.")]
    [InlineData("--data", "--data must be followed by a folder.")]
    [InlineData("--data --tour", "--data must be followed by a folder.")]
    [InlineData("--data=", "--data must be followed by a folder.")]
    [InlineData("--Worker:Consumers=0", "Worker: Consumers must be between 1 and 16, but is 0.")]
    [InlineData("--Worker:Visibility=00:00:00.5", "Worker: Visibility must be between 00:00:01 and 12:00:00, but is 00:00:00.5000000.")]
    [InlineData("--CircuitBreakers:sms:ConsecutiveFailures=0", "ConsecutiveFailures")]
    public async Task A_worker_that_cannot_start_says_why_in_one_line_and_exits_with_1(string arguments, string reason)
    {
        (int code, string output, string error) = await RunAsync(arguments.Split(' '));

        code.Should().Be(1);
        error.Trim().Should().Contain(reason).And.NotContain("\n");
        output.Should().BeEmpty();
    }

    [Fact]
    public void All_settings_that_are_out_of_range_are_named_at_once()
    {
        var options = new WorkerOptions { Consumers = 17, Visibility = TimeSpan.Zero, MaxDeliveries = 0, Retention = TimeSpan.Zero, RedeliveryDelay = TimeSpan.Zero, Grace = TimeSpan.FromSeconds(-1) };

        string[] problems = [.. options.Problems()];

        new WorkerOptions().Problems().Should().BeEmpty();
        problems.Should().HaveCount(6).And.OnlyContain(problem => problem.StartsWith("Worker: ", StringComparison.Ordinal) && problem.Contains(", but is ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task No_assembly_of_ASP_NET_is_referred_to_or_loaded()
    {
        await using (var worker = new RunningWorker(_folder.Path))
        {
            await worker.PublishAsync(RunningWorker.Reminders(1));
            await worker.StartAsync();
            await worker.UntilEmptyAsync();
        }

        string[] loaded = [.. AppDomain.CurrentDomain.GetAssemblies().Select(assembly => assembly.GetName().Name!)];
        string[] referred = [.. Closure(typeof(Consumer).Assembly)];
        string[] described = await Task.WhenAll(new[] { "Worker.runtimeconfig.json", "Worker.deps.json" }.Select(file => File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, file))));

        loaded.Should().Contain(["Worker", "Backend.Toolkit.RateLimiting", "Backend.Toolkit.Idempotency.Sqlite"]).And.NotContain(name => IsAspNet(name));
        referred.Should().Contain(["Backend.Toolkit.CircuitBreakers", "Backend.Toolkit.RetryPolicies", "Backend.Toolkit.TimeoutBudgets", "Microsoft.Extensions.Hosting"])
            .And.NotContain(name => IsAspNet(name));
        described.Should().OnlyContain(text => text.Contains("net10.0", StringComparison.Ordinal) && !IsAspNet(text));
    }

    public void Dispose() => _folder.Dispose();

    private static bool IsAspNet(string text) => text.Contains("AspNetCore", StringComparison.OrdinalIgnoreCase);

    /// <summary>What an assembly refers to, and what that refers to in turn.</summary>
    private static IEnumerable<string> Closure(Assembly root)
    {
        Dictionary<string, Assembly> seen = new() { [root.GetName().Name!] = root };
        Queue<Assembly> open = new([root]);
        while (open.TryDequeue(out Assembly? assembly))
        {
            foreach (AssemblyName name in assembly.GetReferencedAssemblies().Where(name => !seen.ContainsKey(name.Name!)))
            {
                open.Enqueue(seen[name.Name!] = Assembly.Load(name));
            }
        }

        return seen.Keys;
    }

    /// <summary>SIGINT is as usual in it, also when this process runs in the background of a shell, which ignores it there.</summary>
    private static Process Start(params string[] arguments) => Process.Start(
        new ProcessStartInfo("env", ["--default-signal=INT", "dotnet", Path.Combine(AppContext.BaseDirectory, "Worker.dll"), "--Logging:LogLevel:Default=None", .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;

    private static async Task<(int Code, string Output, string Error)> RunAsync(params string[] arguments)
    {
        using Process worker = Start(arguments);
        return await EndAsync(worker);
    }

    private static async Task<(int Code, string Output, string Error)> EndAsync(Process worker)
    {
        try
        {
            Task<string> output = worker.StandardOutput.ReadToEndAsync(), error = worker.StandardError.ReadToEndAsync();
            await worker.WaitForExitAsync().WaitAsync(TimeSpan.FromMinutes(2), TimeProvider.System);
            return (worker.ExitCode, await output, await error);
        }
        finally
        {
            worker.Kill();
        }
    }
}

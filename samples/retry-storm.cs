#:project ../src/Backend.Toolkit.RetryPolicies/Backend.Toolkit.RetryPolicies.csproj

// A retry storm, simulated: services in 1 to 4 layers, each calling the next one through a real RetryPolicy of 4 attempts, the last one calling
// something that fails for a while. Time is simulated and arrivals come from a seeded generator, so nothing waits and every run is the same.
using System.Globalization;
using Backend.Toolkit.RetryPolicies;

const int ArrivalsPerSecond = 20;
(string Name, Func<TimeProvider, RetryBudget> Budget)[] strategies =
[
    ("plain", _ => RetryBudget.Unlimited),
    ("10 %", time => Ratio(0.1, time)),
    ("20 %", time => Ratio(0.2, time)),
    ("tokens", _ => new RetryBudget(new RetryBudgetOptions())),
];

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
Console.WriteLine("Each layer makes up to 4 attempts, waiting 100, 200, 400 ms. Columns: the budget that each layer's retries have:");
Console.WriteLine("none; 10 % or 20 % of the calls of the last 10 s; gRPC's tokens (10, 0.1), the default of a policy.");
Console.WriteLine();
Console.WriteLine("Calls to the bottom for one call of a user, while the bottom fails (400 users):");
bool asPublished = true;
Table((strategy, layers) =>
{
    double calls = Amplification(layers, strategy);
    asPublished &= strategy != strategies[0].Budget || calls == Math.Pow(4, layers);
    return $"{calls:0.00}";
});

Console.WriteLine();
Console.WriteLine($"The bottom serves {Bottom.CallsPerSecond} calls a second, {ArrivalsPerSecond} users a second arrive. It fails at once for 10 s, then it is healthy again: seconds from then");
Console.WriteLine("until the last user who fails arrives. An attempt is given up after 1 s, though the bottom still works on it; a user gives up after 10 s.");
Table((strategy, layers) => Recovery(layers, strategy, hangs: false));
Console.WriteLine();
Console.WriteLine("The same when it hangs for 10 s instead, answering nobody, and then works off its queue (at most 5 s of work) before it sees anything new:");
Table((strategy, layers) => Recovery(layers, strategy, hangs: true));
return asPublished ? 0 : 1;

static RetryBudget Ratio(double ratio, TimeProvider time) =>
    new(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = ratio, MinRetriesPerSecond = 0 }, time);

void Table(Func<Func<TimeProvider, RetryBudget>, int, string> cell)
{
    Console.WriteLine($"{"layers",8}{string.Concat(strategies.Select(strategy => $"{strategy.Name,10}"))}");
    for (int layers = 1; layers <= 4; layers++)
    {
        Console.WriteLine($"{layers,8}{string.Concat(strategies.Select(strategy => $"{cell(strategy.Budget, layers),10}"))}");
    }
}

static double Amplification(int layers, Func<TimeProvider, RetryBudget> budget)
{
    var time = new SimulatedTime();
    var bottom = new Bottom(time, failsFrom: TimeSpan.Zero, failsUntil: TimeSpan.MaxValue, hangs: false);
    Func<CancellationToken, ValueTask<int>> service = Layers(layers, budget, time, bottom);
    const int users = 400;
    for (int i = 0; i < users; i++)
    {
        _ = Succeeds(service, CancellationToken.None);
        time.RunUntil(time.Now + TimeSpan.FromSeconds(1.0 / ArrivalsPerSecond));
    }

    time.RunUntil(time.Now + TimeSpan.FromMinutes(5));
    return (double)bottom.Calls / users;
}

static string Recovery(int layers, Func<TimeProvider, RetryBudget> budget, bool hangs)
{
    const int faultFrom = 20, faultUntil = 30, end = faultUntil + 30;
    var time = new SimulatedTime();
    var bottom = new Bottom(time, TimeSpan.FromSeconds(faultFrom), TimeSpan.FromSeconds(faultUntil), hangs);
    Func<CancellationToken, ValueTask<int>> service = Layers(layers, budget, time, bottom);
    var random = new Random(42);
    List<(double Arrival, Task<bool> Succeeds)> users = [];
    foreach (double arrival in Enumerable.Range(0, end * ArrivalsPerSecond).Select(_ => end * random.NextDouble()).Order())
    {
        time.RunUntil(TimeSpan.FromSeconds(arrival));
        users.Add((arrival, Succeeds(service, new CancellationTokenSource(TimeSpan.FromSeconds(10), time).Token)));
    }

    time.RunUntil(TimeSpan.FromSeconds(end + 10));
    double last = users.Where(user => !user.Succeeds.Result).Max(user => user.Arrival);
    return last < end - 5 ? $"{Math.Max(last - faultUntil, 0):0.0}" : "> 25";
}

static Func<CancellationToken, ValueTask<int>> Layers(int layers, Func<TimeProvider, RetryBudget> budget, TimeProvider time, Bottom bottom)
{
    Func<CancellationToken, ValueTask<int>> next = bottom.CallAsync;
    for (int layer = 0; layer < layers; layer++)
    {
        Func<CancellationToken, ValueTask<int>> below = next;
        var policy = new RetryPolicy(
            new RetryPolicyOptions
            {
                MaxAttempts = 4,
                BaseDelay = TimeSpan.FromMilliseconds(100),
                Jitter = RetryJitter.None, // The arrivals are random already, and so the run repeats.
                Budget = budget(time),
            },
            time);
        next = cancellationToken => policy.ExecuteAsync(below, cancellationToken);
    }

    return next;
}

static async Task<bool> Succeeds(Func<CancellationToken, ValueTask<int>> service, CancellationToken cancellationToken)
{
    try
    {
        await service(cancellationToken);
        return true;
    }
    catch (Exception exception) when (exception is IOException or TimeoutException or OperationCanceledException)
    {
        return false;
    }
}

/// <summary>One server with a queue: a constant time per call, and no idea that a caller has left.</summary>
internal sealed class Bottom(SimulatedTime time, TimeSpan failsFrom, TimeSpan failsUntil, bool hangs)
{
    public const int CallsPerSecond = 40;

    private static readonly TimeSpan LongestQueue = TimeSpan.FromSeconds(5);

    private TimeSpan _busyUntil;

    public int Calls { get; private set; }

    public async ValueTask<int> CallAsync(CancellationToken cancellationToken)
    {
        Calls++;
        TimeSpan served = time.Now;
        if (time.Now >= failsFrom && time.Now < failsUntil)
        {
            served = hangs ? failsUntil : throw new IOException("the bottom is down");
        }

        if (_busyUntil - served > LongestQueue)
        {
            throw new IOException("the queue is full");
        }

        _busyUntil = TimeSpan.FromTicks(Math.Max(_busyUntil.Ticks, served.Ticks)) + TimeSpan.FromSeconds(1.0 / CallsPerSecond);
        TimeSpan wait = _busyUntil - time.Now;
        TimeSpan patience = TimeSpan.FromSeconds(1);
        await Task.Delay(wait < patience ? wait : patience, time, cancellationToken);
        return wait < patience ? 200 : throw new TimeoutException("no answer within 1 s");
    }
}

/// <summary>Time that stands still until it is told to run; timers fire in order, on the thread that runs it.</summary>
internal sealed class SimulatedTime : TimeProvider
{
    private readonly PriorityQueue<(Timer Timer, int Version), (long Due, long Order)> _timers = new();
    private long _order;

    public TimeSpan Now { get; private set; }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Now.Ticks;

    public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch + Now;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new Timer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    public void RunUntil(TimeSpan end)
    {
        while (_timers.TryPeek(out (Timer Timer, int Version) next, out (long Due, long Order) at) && at.Due <= end.Ticks)
        {
            _timers.Dequeue();
            Now = TimeSpan.FromTicks(Math.Max(Now.Ticks, at.Due));
            next.Timer.Fire(next.Version);
        }

        Now = end;
    }

    private sealed class Timer(SimulatedTime time, TimerCallback callback, object? state) : ITimer
    {
        private int _version;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            _version++;
            if (dueTime != Timeout.InfiniteTimeSpan)
            {
                time._timers.Enqueue((this, _version), ((time.Now + dueTime).Ticks, time._order++));
            }

            return true;
        }

        public void Fire(int version)
        {
            if (version == _version)
            {
                callback(state);
            }
        }

        public void Dispose() => _version++;

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}

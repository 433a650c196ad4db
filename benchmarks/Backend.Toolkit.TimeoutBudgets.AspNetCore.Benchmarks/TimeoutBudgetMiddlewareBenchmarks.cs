using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Timeouts;
using Microsoft.Extensions.DependencyInjection;

/// <summary>
/// One request through a pipeline without a server: bare, behind ASP.NET Core's request timeouts, and behind timeout budgets. Both end the request after 30 s, which none
/// reaches; the client's token can be cancelled. Only ours reads a header, starts a scope and keeps late writes back. Nobody listens to metrics.
/// </summary>
[GroupBenchmarksBy(BenchmarkDotNet.Configs.BenchmarkLogicalGroupRule.ByCategory)]
public class TimeoutBudgetMiddlewareBenchmarks : IDisposable
{
    private static readonly byte[] Answer = "answer"u8.ToArray();

    private readonly CancellationTokenSource _client = new();
    private readonly DefaultHttpContext _context;
    private readonly DefaultHttpContext _withHeader;
    private readonly Pipelines _atOnce = new(static _ => Task.CompletedTask);
    private readonly Pipelines _writing = new(static async context => await context.Response.BodyWriter.WriteAsync(Answer).ConfigureAwait(false));
    private readonly Pipelines _awaiting;
    private TaskCompletionSource _call = new();

    public TimeoutBudgetMiddlewareBenchmarks()
    {
        _awaiting = new Pipelines(async _ => await _call.Task.ConfigureAwait(false));
        _context = Context();
        _withHeader = Context();
        _withHeader.Request.Headers["Timeout-Budget"] = "29000";
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _client.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark(Description = "bare"), BenchmarkCategory("answers nothing, at once")]
    public void Bare() => Run(_atOnce.Bare, _context);

    [Benchmark(Baseline = true, Description = "UseRequestTimeouts"), BenchmarkCategory("answers nothing, at once")]
    public void Incumbent() => Run(_atOnce.Incumbent, _context);

    [Benchmark(Description = "UseTimeoutBudgets"), BenchmarkCategory("answers nothing, at once")]
    public void Ours() => Run(_atOnce.Ours, _context);

    [Benchmark(Description = "UseTimeoutBudgets, with a header"), BenchmarkCategory("answers nothing, at once")]
    public void OursWithHeader() => Run(_atOnce.Ours, _withHeader);

    [Benchmark(Description = "bare"), BenchmarkCategory("writes, at once")]
    public void BareWriting() => Run(_writing.Bare, _context);

    [Benchmark(Baseline = true, Description = "UseRequestTimeouts"), BenchmarkCategory("writes, at once")]
    public void IncumbentWriting() => Run(_writing.Incumbent, _context);

    [Benchmark(Description = "UseTimeoutBudgets"), BenchmarkCategory("writes, at once")]
    public void OursWriting() => Run(_writing.Ours, _context);

    [Benchmark(Description = "bare"), BenchmarkCategory("awaits")]
    public void BareAwaiting() => RunAwaiting(_awaiting.Bare);

    [Benchmark(Baseline = true, Description = "UseRequestTimeouts"), BenchmarkCategory("awaits")]
    public void IncumbentAwaiting() => RunAwaiting(_awaiting.Incumbent);

    [Benchmark(Description = "UseTimeoutBudgets"), BenchmarkCategory("awaits")]
    public void OursAwaiting() => RunAwaiting(_awaiting.Ours);

    private static void Run(RequestDelegate pipeline, HttpContext context)
    {
        if (!pipeline(context).IsCompletedSuccessfully)
        {
            throw new InvalidOperationException("The request has not completed.");
        }
    }

    /// <summary>The call that the request waits for completes on the same thread, so that no queue is measured.</summary>
    private void RunAwaiting(RequestDelegate pipeline)
    {
        _call = new TaskCompletionSource();
        Task pending = pipeline(_context);
        _call.SetResult();
        if (!pending.IsCompletedSuccessfully)
        {
            throw new InvalidOperationException("The request has not completed.");
        }
    }

    private DefaultHttpContext Context()
    {
        var context = new DefaultHttpContext { RequestAborted = _client.Token };
        context.Features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(Stream.Null));
        return context;
    }

    private sealed class Pipelines
    {
        private readonly IServiceProvider _services = new ServiceCollection()
            .AddLogging()
            .AddRequestTimeouts(o => o.DefaultPolicy = new RequestTimeoutPolicy { Timeout = TimeSpan.FromSeconds(30) })
            .AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(30))
            .BuildServiceProvider();

        public Pipelines(RequestDelegate handler)
        {
            Bare = Build(handler, static _ => { });
            Incumbent = Build(handler, static app => app.UseRequestTimeouts());
            Ours = Build(handler, static app => app.UseTimeoutBudgets());
        }

        public RequestDelegate Bare { get; }

        public RequestDelegate Incumbent { get; }

        public RequestDelegate Ours { get; }

        private RequestDelegate Build(RequestDelegate handler, Action<IApplicationBuilder> use)
        {
            var app = new ApplicationBuilder(_services);
            use(app);
            app.Run(handler);
            return app.Build();
        }
    }
}

using System.Net;
using System.Threading.RateLimiting;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.RateLimiting;
using Microsoft.Extensions.DependencyInjection;

/// <summary>
/// One admitted request on a <see cref="DefaultHttpContext"/>: bare, behind ASP.NET Core's rate limiter, and behind ours. Both count by the client's address with a token bucket that never runs
/// dry. Only ours sets headers and a feature.
/// </summary>
public class RateLimitMiddlewareBenchmarks
{
    private readonly DefaultHttpContext _context = new();
    private readonly RequestDelegate _bare = Build(new ServiceCollection(), static _ => { });
    private readonly RequestDelegate _framework = Build(
        new ServiceCollection().AddLogging().AddMetrics().AddRateLimiter(options => options.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, IPAddress>(context =>
            RateLimitPartition.GetTokenBucketLimiter(context.Connection.RemoteIpAddress!, static _ => new TokenBucketRateLimiterOptions
            {
                TokenLimit = int.MaxValue,
                TokensPerPeriod = int.MaxValue,
                ReplenishmentPeriod = TimeSpan.FromSeconds(1),
            }))),
        static app => app.UseRateLimiter());

    private readonly RequestDelegate _toolkit = Build(
        new ServiceCollection().AddLogging().AddRateLimits().AddTokenBucketLimiter<HttpContext>("api", RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(20_000_000, TimeSpan.FromSeconds(1), int.MaxValue))),
        static app => app.UseRateLimits("api"));

    public RateLimitMiddlewareBenchmarks() => _context.Connection.RemoteIpAddress = IPAddress.Loopback;

    [BenchmarkCategory("admitted"), Benchmark(Description = Comparison.Floor)]
    public void Bare() => Run(_bare);

    [BenchmarkCategory("admitted"), Benchmark(Baseline = true, Description = "UseRateLimiter")]
    public void Framework() => Run(_framework);

    [BenchmarkCategory("admitted"), Benchmark(Description = "UseRateLimits")]
    public void Toolkit() => Run(_toolkit);

    private static RequestDelegate Build(IServiceCollection services, Action<IApplicationBuilder> use)
    {
        var app = new ApplicationBuilder(services.BuildServiceProvider());
        use(app);
        app.Run(static _ => Task.CompletedTask);
        return app.Build();
    }

    /// <summary>The feature is taken away as a server does between requests.</summary>
    private void Run(RequestDelegate pipeline)
    {
        _context.Features.Set<RequestRateLimits>(null);
        if (!pipeline(_context).IsCompletedSuccessfully)
        {
            throw new InvalidOperationException("The request has not completed.");
        }
    }
}

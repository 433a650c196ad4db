using System.Globalization;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

public sealed class RegistrationTests
{
    [Fact]
    public void Every_form_gives_a_limiter_that_limits()
    {
        ServiceCollection services = new();
        services.AddTokenBucketLimiter(o => o.Limits.Add(Per(1, 60)));
        services.AddTokenBucketLimiter("bucket", (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        services.AddSlidingWindowLimiter(o => o.Limits.Add(Per(1, 60)));
        services.AddSlidingWindowLimiter("window", (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        services.AddTokenBucketLimiter<string>(key => key, o => o.Limits.Add(Per(1, 60)));
        services.AddTokenBucketLimiter<string>("keyed bucket", key => key, (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        services.AddSlidingWindowLimiter<string>("keyed window", key => key, o => o.Limits.Add(Per(1, 60)));
        services.AddSlidingWindowLimiter<int>(key => key, (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        services.AddSingleton(Per(1, 60));
        services.AddSingleton<TimeProvider>(new FakeTimeProvider());
        using ServiceProvider provider = services.BuildServiceProvider();

        Once((out RateLimitDecision decision) => provider.GetRequiredService<TokenBucketLimiter>().TryAcquire(1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredKeyedService<TokenBucketLimiter>("bucket").TryAcquire(1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredService<SlidingWindowLimiter>().TryAcquire(1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredKeyedService<SlidingWindowLimiter>("window").TryAcquire(1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredService<KeyedRateLimiter<string>>().TryAcquire("a", 1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("keyed bucket").TryAcquire("a", 1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("keyed window").TryAcquire("a", 1, out decision));
        Once((out RateLimitDecision decision) => provider.GetRequiredService<KeyedRateLimiter<int>>().TryAcquire(1, 1, out decision));
        provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("keyed window").Name.Should().Be("keyed window");
    }

    [Fact]
    public async Task Options_that_are_wrong_stop_the_host()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddTokenBucketLimiter("api");
        using IHost host = builder.Build();

        await host.Awaiting(it => it.StartAsync()).Should().ThrowAsync<OptionsValidationException>().WithMessage("api: Limits must be 1 to 4 limits, but is 0.");
    }

    [Fact]
    public void Limits_are_bound_from_configuration_and_a_reload_keeps_what_was_used()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Api:Limits:0:Permits"] = "10",
            ["Api:Limits:0:Period"] = "00:01:00",
            ["Api:Limits:1:Permits"] = "2.5",
            ["Api:Limits:1:Period"] = "00:00:30",
            ["Api:Limits:1:Burst"] = "8",
        }).Build();
        LogList log = new();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<TimeProvider>(new FakeTimeProvider()).AddLogging(logging => logging.AddProvider(log));
        services.AddTokenBucketLimiter<string>("api", key => key);
        services.AddOptions<KeyedTokenBucketLimiterOptions<string>>("api").BindConfiguration("Api");
        using ServiceProvider provider = services.BuildServiceProvider();
        var limiter = provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("api");
        limiter.TryAcquire("a", 8, out _).Should().BeTrue();
        limiter.TryAcquire("a", 1, out _).Should().BeFalse();

        configuration["Api:Limits:1:Burst"] = "12";
        configuration.Reload();
        limiter.TryAcquire("a", 0, out RateLimitDecision more);
        configuration["Api:Limits:0:Permits"] = "-3";
        configuration.Reload();
        limiter.TryAcquire("a", 0, out RateLimitDecision same);

        more.Remaining.Should().Be(2);
        same.Remaining.Should().Be(2);
        log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Contain("'api'").And.Contain("-3");
    }

    [Theory]
    [InlineData("ar-SA")]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    public void Configuration_and_problems_read_the_same_in_every_culture(string culture)
    {
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?> { ["Api:Limits:0:Permits"] = "2.5", ["Api:Limits:0:Period"] = "00:00:10" }).Build();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<TimeProvider>(new FakeTimeProvider());
        services.AddTokenBucketLimiter("api").AddOptions<TokenBucketLimiterOptions>("api").BindConfiguration("Api");
        using ServiceProvider provider = services.BuildServiceProvider();
        var limiter = provider.GetRequiredKeyedService<TokenBucketLimiter>("api");

        limiter.TryAcquire(3, out _).Should().BeTrue();
        limiter.TryAcquire(3, out RateLimitDecision refused).Should().BeFalse();

        refused.RetryAfter.Should().Be(TimeSpan.FromSeconds(12));
        With(new TokenBucketLimiterOptions { Name = "api", QueueLimit = -5 }, Per(-1.5, 1)).Problems().Should().Equal(
            "api: Limits must be limits with Permits of at most 300000000 a second and at least 1 in 3650.00:00:00, but one is -1.5 per 00:00:01.",
            "api: QueueLimit must be between 0 and 1000000, but is -5.");
    }

    [Fact]
    public void A_reload_while_the_limiter_is_made_is_not_missed()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?> { ["Api:Limits:0:Permits"] = "2" }).Build();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<TimeProvider>(_ =>
        {
            configuration["Api:Limits:0:Permits"] = "5";
            configuration.Reload();
            return new FakeTimeProvider();
        });
        services.AddTokenBucketLimiter("api").AddOptions<TokenBucketLimiterOptions>("api").BindConfiguration("Api");
        using ServiceProvider provider = services.BuildServiceProvider();

        var limiter = provider.GetRequiredKeyedService<TokenBucketLimiter>("api");

        limiter.TryAcquire(5, out _).Should().BeTrue();
    }

    private delegate bool Try(out RateLimitDecision decision);

    private static void Once(Try limiter)
    {
        limiter(out _).Should().BeTrue();
        limiter(out RateLimitDecision refused).Should().BeFalse();
        refused.RetryAfter.Should().BePositive();
    }
}

using System.Globalization;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

public sealed class RegistrationTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    [Fact]
    public async Task Every_form_gives_a_limiter_that_limits()
    {
        ServiceCollection services = new();
        services.AddSingleton<IConnectionMultiplexer>(redis.Connection).AddSingleton(Per(1, 3600));
        services.AddRedisTokenBucketLimiter<string>(key => key, o => o.Limits.Add(Per(1, 3600)));
        services.AddRedisTokenBucketLimiter<int>(key => key, (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        services.AddRedisTokenBucketLimiter<string>("a", key => key, o => o.Limits.Add(Per(1, 3600)));
        services.AddRedisTokenBucketLimiter<string>("b", key => key, (o, provider) => o.Limits.Add(provider.GetRequiredService<RateLimit>()));
        await using ServiceProvider provider = services.BuildServiceProvider();

        await Once(provider.GetRequiredService<KeyedRateLimiter<string>>(), "one");
        await Once(provider.GetRequiredService<KeyedRateLimiter<int>>(), 1);
        await Once(provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("a"), "one");
        await Once(provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("b"), "one");
        provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("b").Should().BeOfType<RedisTokenBucketLimiter<string>>().Which.Name.Should().Be("b");
        provider.GetRequiredService<KeyedRateLimiter<string>>().Name.Should().Be("default");

        static async Task Once<TResource>(KeyedRateLimiter<TResource> limiter, TResource resource)
        {
            (await limiter.AcquireDecisionAsync(resource)).IsAdmitted.Should().BeTrue();
            (await limiter.AcquireDecisionAsync(resource)).IsAdmitted.Should().BeFalse();
        }
    }

    [Fact]
    public async Task A_connection_of_the_options_own_goes_before_that_of_the_container()
    {
        await using ConnectionMultiplexer nowhere = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{RedisServer.FreePort()},abortConnect=false,connectTimeout=100");
        ServiceCollection services = new();
        services.AddSingleton<IConnectionMultiplexer>(nowhere);
        services.AddRedisTokenBucketLimiter<string>("own", key => key, o =>
        {
            o.Limits.Add(Per(10, 3600));
            o.Connection = redis.Connection;
            o.LocalFallback = false;
            o.StoreTimeout = TimeSpan.FromSeconds(10);
        });
        await using ServiceProvider provider = services.BuildServiceProvider();

        RateLimitDecision decision = await provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("own").AcquireDecisionAsync("one");

        decision.Remaining.Should().Be(9);
    }

    [Fact]
    public async Task Options_that_are_wrong_stop_the_host_and_all_are_told()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddRedisTokenBucketLimiter<string>("api", key => key, o =>
        {
            o.KeyPrefix = "{a}";
            o.LeaseSize = -1;
            o.StoreTimeout = TimeSpan.FromHours(1);
            o.Capacity = 1;
        });
        using IHost host = builder.Build();

        OptionsValidationException problems = (await host.Awaiting(it => it.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;

        problems.Failures.Should().Equal(
            "api: Limits must be 1 to 4 limits, but is 0.",
            "api: Connection must be set, or an IConnectionMultiplexer be registered, but is null.",
            "api: KeyPrefix must be a text without braces, but is '{a}'.",
            "api: LeaseSize must be between 0 and 1000000, but is -1.",
            "api: StoreTimeout must be between 00:00:00.0010000 and 00:01:00, but is 01:00:00.",
            "api: Capacity must be between 64 and 1048576, but is 1.");
    }

    [Theory]
    [InlineData("ar-SA")]
    [InlineData("th-TH")]
    public void Problems_are_told_alike_in_any_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            new RedisTokenBucketLimiterOptions<string> { LeaseSize = -1234, KeyPrefix = null!, Limits = { Per(-1.5, 1) } }.Problems().Should().Equal(
                "RedisTokenBucketLimiterOptions: Name must be not empty and without braces, but is ''.",
                "RedisTokenBucketLimiterOptions: Limits must be limits with Permits of at most 300000000 a second and at least 1 in 3650.00:00:00, but one is -1.5 per 00:00:01.",
                "RedisTokenBucketLimiterOptions: Connection must be set, or an IConnectionMultiplexer be registered, but is null.",
                "RedisTokenBucketLimiterOptions: KeySelector must be set, but is null.",
                "RedisTokenBucketLimiterOptions: KeyPrefix must be a text without braces, but is null.",
                "RedisTokenBucketLimiterOptions: LeaseSize must be between 0 and 1000000, but is -1234.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public async Task Options_are_bound_from_configuration_and_a_reload_keeps_what_was_used()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["Api:Limits:0:Permits"] = "10",
            ["Api:Limits:0:Period"] = "10:00:00",
            ["Api:StoreTimeout"] = "00:00:10",
            ["Api:KeyPrefix"] = $"{Guid.NewGuid():N}:",
        }).Build();
        LogList log = new();
        ServiceCollection services = new();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<IConnectionMultiplexer>(redis.Connection).AddLogging(logging => logging.AddProvider(log));
        services.AddRedisTokenBucketLimiter<string>("api", key => key);
        services.AddOptions<RedisTokenBucketLimiterOptions<string>>("api").BindConfiguration("Api");
        await using ServiceProvider provider = services.BuildServiceProvider();
        var limiter = provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("api");
        await limiter.AcquireDecisionAsync("one", 8);

        configuration["Api:Limits:0:Permits"] = "12";
        configuration.Reload();
        long more = (await limiter.AcquireDecisionAsync("one", 0)).Remaining;
        configuration["Api:LeaseSize"] = "-3";
        configuration.Reload();
        long same = (await limiter.AcquireDecisionAsync("one", 0)).Remaining;

        (more, same).Should().Be((4, 4));
        log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Contain("'api'").And.Contain("-3");
    }
}

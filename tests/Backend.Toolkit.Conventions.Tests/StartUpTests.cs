using System.Collections;
using System.ComponentModel;
using System.Reflection;
using System.Runtime.CompilerServices;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Npgsql;
using StackExchange.Redis;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>All options of all packages come from one file, <c>appsettings.json</c> beside this one, or the host does not start and says why.</summary>
public sealed class StartUpTests
{
    private const string Name = "shop";

    /// <summary>Whatever differs from the default is refused.</summary>
    private static string[] WithOneValue { get; } =
    [
        "OutboundPolicyOptions:Budget:AbandonOnExpiry", "OutboundPolicyOptions:Attempt:AbandonOnExpiry", // a handler waits for its requests
        "SlidingWindowLimiterOptions:Limits:0:Burst", "KeyedSlidingWindowLimiterOptions:Limits:0:Burst", // a window has none
    ];

    /// <summary>The options that a file can say, found and never listed.</summary>
    private static (Package Package, Type Type)[] AllOptions { get; } = [.. Repository.Packages.SelectMany(package => package.OptionsTypes.Select(type => (package, type)))];

    [Fact]
    public async Task Every_option_of_every_package_is_what_the_file_says()
    {
        using IHost host = Host([], services => services.AddSingleton(NpgsqlDataSource.Create("Host=127.0.0.1")), out IServiceCollection services);
        IConfiguration file = host.Services.GetRequiredService<IConfiguration>();

        await host.StartAsync();

        // The live instances take them, too.
        object[] live = [.. services.Where(service => service.IsKeyedService && Equals(service.ServiceKey, Name) && !service.ServiceType.IsGenericTypeDefinition)
            .Select(service => host.Services.GetRequiredKeyedService(service.ServiceType, Name))];
        (string Path, string? Trouble)[] options = [.. AllOptions.SelectMany(options => Compare(file.GetSection(SectionOf(options.Type)), Live(host, options.Package, options.Type), Activator.CreateInstance(options.Type)!))];
        await host.StopAsync();

        live.Should().HaveCountGreaterThanOrEqualTo(15);
        options.Should().HaveCountGreaterThanOrEqualTo(120);
        options.Where(option => option.Trouble is not null).Select(option => $"{option.Path} {option.Trouble}").ShouldBeNone();
    }

    [Fact]
    public async Task A_wrong_value_in_each_package_gives_one_sentence_each_and_all_in_one_failure()
    {
        // No file can say a data source, which one package needs: there is none here.
        (string Package, string Setting, string Value, string Sentence)[] wrong =
        [
            ("CircuitBreakers", "CircuitBreakerOptions:FailureRatio", "1.5", "shop: FailureRatio must be greater than 0 and at most 1, but is 1.5."),
            ("Http", "OutboundPolicyOptions:Retry:MaxAttempts", "0", "shop: Retry.MaxAttempts must be between 1 and 100, but is 0."),
            ("Idempotency", "IdempotencyOptions:MaxWait", "02:00:00", "shop: MaxWait must be greater than 0 and at most 01:00:00, but is 02:00:00."),
            ("Idempotency.AspNetCore", "HttpIdempotencyOptions:HeaderName", "a b", "http: HeaderName must be the name of a header, but is 'a b'."),
            ("Idempotency.PostgreSql", "PostgreSqlIdempotencyStoreOptions:CleanupBatch", "0", "shop: CleanupBatch must be between 1 and 100000, but is 0."),
            ("Idempotency.Redis", "RedisIdempotencyStoreOptions:Replicas", "101", "shop: Replicas must be between 0 and 100, but is 101."),
            ("Idempotency.Sqlite", "SqliteIdempotencyStoreOptions:Table", "Keys", "shop: Table must be 1 to 50 letters (a to z), digits and underscores, no digit first, but is 'Keys'."),
            ("Pagination", "CursorPaginatorOptions:TotalCap", "0", "shop: TotalCap must be between 1 and 1000000000, but is 0."),
            ("Pagination.AspNetCore", "HttpPaginationOptions:SizeParameter", " ", "pages: SizeParameter must be the name of a parameter, but is ' '."),
            ("RateLimiting", "TokenBucketLimiterOptions:QueueLimit", "-1", "shop: QueueLimit must be between 0 and 1000000, but is -1."),
            ("RateLimiting.Redis", "RedisTokenBucketLimiterOptions:Capacity", "1", "shop: Capacity must be between 64 and 1048576, but is 1."),
            ("RetryPolicies", "RetryPolicyOptions:MaxAttempts", "0", "shop: MaxAttempts must be between 1 and 100, but is 0."),
            ("TimeoutBudgets", "TimeoutBudgetOptions:Total", "-00:00:01", "shop: Total must be zero, greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is -00:00:01."),
            ("TimeoutBudgets.AspNetCore", "RequestBudgetOptions:MinimumBudget", "-00:00:01", "request: MinimumBudget must be zero or greater, but is -00:00:01."),
            ("Webhooks", "WebhookVerifierOptions:Tolerance", "00:00:00", "shop: Tolerance must be between 00:00:01 and 1.00:00:00, but is 00:00:00."),
            ("Webhooks.AspNetCore", "WebhookReceivingOptions:RetryAfter", "00:00:00", "receiving: RetryAfter must be between 00:00:01 and 01:00:00, but is 00:00:00."),
            ("Webhooks.Delivery", "WebhookDeliveryOptions:MaxConcurrency", "1", "default: MaxConcurrency must be between 2 and 10000, but is 1."),
            ("Webhooks.Delivery.PostgreSql", "PostgreSqlWebhookDeliveryStoreOptions:CreateSchema", "true", "default: DataSource must be set, or an NpgsqlDataSource registered, but is null."),
            ("Webhooks.Delivery.Sqlite", "SqliteWebhookDeliveryStoreOptions:ConnectionString", "", "default: ConnectionString must be a connection string such as Data Source=shop.db, but is empty."),
        ];
        using IHost host = Host(wrong.ToDictionary(value => value.Setting, value => (string?)value.Value), _ => { }, out IServiceCollection _);

        Func<Task> start = () => host.StartAsync();

        AggregateException failure = (await start.Should().ThrowExactlyAsync<AggregateException>()).Which;
        wrong.Select(value => $"Backend.Toolkit.{value.Package}").Should().BeEquivalentTo(AllOptions.Select(options => options.Package.Name).Distinct());
        failure.InnerExceptions.Cast<OptionsValidationException>().SelectMany(one => one.Failures).Should().BeEquivalentTo(wrong.Select(value => value.Sentence));
        wrong.Where(value => !failure.Message.Contains(value.Sentence, StringComparison.Ordinal)).ShouldBeNone("the message has them all");
    }

    [Fact]
    public void Of_two_reloads_at_once_the_older_does_not_stay()
    {
        using IHost host = Host(
            [],
            services =>
            {
                services.AddSingleton(NpgsqlDataSource.Create("Host=127.0.0.1"));
                services.AddSingleton(typeof(OptionsMonitor<>)).AddSingleton(typeof(IOptionsMonitor<>), typeof(LateMonitor<>));
            },
            out IServiceCollection services);
        foreach (ServiceDescriptor service in services.Where(service => service.ServiceType.Namespace!.StartsWith("Backend.Toolkit.", StringComparison.Ordinal) && !service.ServiceType.IsGenericTypeDefinition))
        {
            _ = service.IsKeyedService ? host.Services.GetRequiredKeyedService(service.ServiceType, service.ServiceKey) : host.Services.GetRequiredService(service.ServiceType);
        }

        new ApplicationBuilder(host.Services).UseTimeoutBudgets().Build();

        (Type Type, int Told, Exception? Failure)[] reloads = [.. AllOptions.Select(options =>
        {
            // What comes too late must not be taken; taken, it is refused.
            object old = Invalid(options.Type);
            (int told, Exception? failure) = ((ILateMonitor)host.Services.GetRequiredService(typeof(IOptionsMonitor<>).MakeGenericType(options.Type))).TellLate(old, NameOf(options.Package, options.Type));
            return (options.Type, told, failure);
        })];

        reloads.Where(reload => reload.Failure is not null).ShouldBeNone();
        reloads.Sum(reload => reload.Told).Should().BeGreaterThanOrEqualTo(20);
    }

    /// <summary>Options with everything wrong.</summary>
    private static object Invalid(Type type)
    {
        object options = Activator.CreateInstance(type)!;
        foreach (PropertyInfo property in type.GetProperties().Where(property => property.SetMethod is { IsPublic: true }))
        {
            object? wrong = Type.GetTypeCode(property.PropertyType) switch
            {
                TypeCode.Int32 => -7,
                TypeCode.Int64 => -7L,
                TypeCode.Double => -7d,
                TypeCode.String when property.Name != "Name" => " ",
                _ => property.PropertyType == typeof(TimeSpan) ? TimeSpan.FromDays(-7) : null,
            };
            if (wrong is not null)
            {
                property.SetValue(options, wrong);
            }
        }

        ((IEnumerable<string>)type.GetMethod("Problems")!.Invoke(options, [])!).Should().NotBeEmpty();
        return options;
    }

    /// <summary>A host with every service that has options, bound from the file and these settings over it.</summary>
    private static IHost Host(Dictionary<string, string?> settings, Action<IServiceCollection> configure, out IServiceCollection services)
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.AddJsonFile(Repository.Absolute("tests/Backend.Toolkit.Conventions.Tests/appsettings.json")).AddInMemoryCollection(settings);
        services = builder.Services;
        services.AddLogging(logging => logging.ClearProviders());
        services.AddSingleton<IConnectionMultiplexer>(_ => ConnectionMultiplexer.Connect("127.0.0.1:1,abortConnect=false,connectTimeout=1"));
        configure(services);
        foreach ((Package package, Type type) in AllOptions)
        {
            Register(services, package, type);
            typeof(StartUpTests).GetMethod(nameof(Bind), BindingFlags.NonPublic | BindingFlags.Static)!.MakeGenericMethod(type).Invoke(null, [services, NameOf(package, type)]);
        }

        return builder.Build();
    }

    /// <summary>The <c>AddX</c> that has these options, with a name if there is one. Options without any are for a constructor.</summary>
    private static MethodInfo? RegistrationOf(Package package, Type options) => package.Registrations
        .Select(method => method.IsGenericMethod ? method.MakeGenericMethod(typeof(object)) : method)
        .Where(method => method.GetParameters()[^1] is { Name: "configure" } configure && configure.ParameterType == typeof(Action<>).MakeGenericType(options))
        .MaxBy(method => method.GetParameters().Count(parameter => parameter.Name == "name"));

    private static string NameOf(Package package, Type options) =>
        RegistrationOf(package, options)?.GetParameters().Any(parameter => parameter.Name == "name" || parameter.ParameterType == typeof(IHttpClientBuilder)) == true ? Name : Options.DefaultName;

    private static void Register(IServiceCollection services, Package package, Type options)
    {
        MethodInfo? method = RegistrationOf(package, options);
        method?.Invoke(null, [.. method.GetParameters().Select(parameter =>
            parameter.ParameterType == typeof(IServiceCollection) ? services
            : parameter.ParameterType == typeof(IHttpClientBuilder) ? services.AddHttpClient(Name)
            : parameter.Name == "name" ? Name
            : parameter.Name == "keySelector" ? (object)(Func<object, RateLimitKey>)(_ => "key")
            : null)]);
    }

    private static void Bind<TOptions>(IServiceCollection services, string name)
        where TOptions : class => services.AddOptions<TOptions>(name).BindConfiguration(SectionOf(typeof(TOptions)));

    private static object Live(IHost host, Package package, Type options)
    {
        Type monitor = typeof(IOptionsMonitor<>).MakeGenericType(options);
        return monitor.GetMethod("Get")!.Invoke(host.Services.GetRequiredService(monitor), [NameOf(package, options)])!;
    }

    private static string SectionOf(Type options) => options.Name.Split('`')[0];

    /// <summary>Every value that a section can hold, with what is wrong about it.</summary>
    private static IEnumerable<(string Path, string? Trouble)> Compare(IConfigurationSection section, object live, object untouched)
    {
        foreach (PropertyInfo property in live.GetType().GetProperties().Where(property => property.Name != "Name" && IsBindable(property)))
        {
            IConfigurationSection said = section.GetSection(property.Name);
            object? value = property.GetValue(live), former = property.GetValue(untouched);
            if (WithOneValue.Contains(said.Path))
            {
                yield return (said.Path, null);
            }
            else if (property.SetMethod is { } set && set.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit)))
            {
                yield return (said.Path, "is init-only, which the source generator of configuration passes over");
            }
            else if (!said.Exists())
            {
                yield return (said.Path, "is not in appsettings.json");
            }
            else if (IsScalar(property.PropertyType))
            {
                yield return (said.Path, AreEqual(value, former) ? "has its default" : AreEqual(value, Scalar(said, property.PropertyType)) ? null : $"is {value}");
            }
            else if (value is IEnumerable items)
            {
                // What a file says comes behind the defaults.
                object[] added = [.. items.Cast<object>().Skip(former is IEnumerable defaults ? defaults.Cast<object>().Count() : 0)];
                IConfigurationSection[] children = [.. said.GetChildren()];
                yield return (said.Path, added.Length == children.Length && added.Length > 0 ? null : $"has {added.Length} items");
                foreach ((string, string?) item in children.Zip(added).SelectMany(pair => IsScalar(pair.Second.GetType())
                    ? [(pair.First.Path, AreEqual(pair.Second, Scalar(pair.First, pair.Second.GetType())) ? null : $"is {pair.Second}")]
                    : Compare(pair.First, pair.Second, Activator.CreateInstance(pair.Second.GetType())!)))
                {
                    yield return item;
                }
            }
            else
            {
                foreach ((string, string?) part in Compare(said, value!, former!))
                {
                    yield return part;
                }
            }
        }
    }

    /// <summary>Neither a delegate nor a thing that only code can make.</summary>
    private static bool IsBindable(PropertyInfo property) =>
        IsScalar(property.PropertyType) ? property.SetMethod is { IsPublic: true } : IsBindable(property.PropertyType);

    private static bool IsBindable(Type type) =>
        IsScalar(type)
        || (type.IsGenericType && type.IsAssignableTo(typeof(IEnumerable)) && IsBindable(type.GetGenericArguments()[0]))
        || (type.Namespace!.StartsWith("Backend.Toolkit.", StringComparison.Ordinal) && type.GetConstructor([]) is not null && type.GetProperties().Any(IsBindable));

    private static bool IsScalar(Type type) => type == typeof(byte[]) || TypeDescriptor.GetConverter(type).CanConvertFrom(typeof(string));

    private static bool AreEqual(object? one, object? other) => StructuralComparisons.StructuralEqualityComparer.Equals(one, other);

    private static object? Scalar(IConfigurationSection said, Type type) =>
        type == typeof(byte[]) ? Convert.FromBase64String(said.Value!) : TypeDescriptor.GetConverter(type).ConvertFromInvariantString(said.Value!);

    private interface ILateMonitor
    {
        public (int Told, Exception? Failure) TellLate(object old, string name);
    }

    /// <summary>Tells of a reload when the next one was already told.</summary>
    private sealed class LateMonitor<TOptions>(OptionsMonitor<TOptions> inner) : IOptionsMonitor<TOptions>, ILateMonitor
        where TOptions : class
    {
        private readonly List<Action<TOptions, string?>> _listeners = [];

        public TOptions CurrentValue => inner.CurrentValue;

        public TOptions Get(string? name) => inner.Get(name);

        public IDisposable? OnChange(Action<TOptions, string?> listener)
        {
            _listeners.Add(listener);
            return null;
        }

        public (int Told, Exception? Failure) TellLate(object old, string name)
        {
            try
            {
                _listeners.ForEach(listener => listener((TOptions)old, name));
                return (_listeners.Count, null);
            }
            catch (OptionsValidationException failure)
            {
                return (_listeners.Count, failure);
            }
        }
    }
}

// One whole life of an endpoint through the AWS SDK for JavaScript v3; prints one JSON line a step.
// The steps and what must come of them: tests/support/client_life.py.
import {
  AddTagsCommand,
  CreateEndpointCommand,
  CreateEndpointConfigCommand,
  CreateModelCommand,
  DeleteEndpointCommand,
  DeleteEndpointConfigCommand,
  DeleteModelCommand,
  DeleteTagsCommand,
  DescribeEndpointCommand,
  DescribeEndpointConfigCommand,
  DescribeModelCommand,
  ListTagsCommand,
  SageMakerClient,
  UpdateEndpointCommand,
  UpdateEndpointWeightsAndCapacitiesCommand,
  paginateListEndpointConfigs,
  paginateListEndpoints,
  waitUntilEndpointDeleted,
  waitUntilEndpointInService,
} from "@aws-sdk/client-sagemaker";
import {
  InvokeEndpointCommand,
  InvokeEndpointWithResponseStreamCommand,
  SageMakerRuntimeClient,
} from "@aws-sdk/client-sagemaker-runtime";

const { LIFE_NAME: name, LIFE_IMAGE: image, LIFE_ROLE: role, LIFE_MODEL_DATA: url, LIFE_ROWS: rows } = process.env;
const bucket = "s3://life-outputs";
const sagemaker = new SageMakerClient();
const runtime = new SageMakerRuntimeClient();

const tell = (step, facts) => console.log(JSON.stringify({ step, ...facts }));
const seconds = (moment) => moment.getTime() / 1000;
const send = (command) => sagemaker.send(command);

async function refused(step, facts, call) {
  try {
    await call();
    tell(step, { ...facts, code: null });
  } catch (fault) {
    tell(step, { ...facts, code: fault.name, message: fault.message, status: fault.$metadata?.httpStatusCode ?? 0 });
  }
}

const variant = (more = {}) => ({
  VariantName: "big",
  ModelName: name,
  InitialInstanceCount: 1,
  InstanceType: "ml.m5.large",
  ...more,
});
const model = () =>
  new CreateModelCommand({
    ModelName: name,
    ExecutionRoleArn: role,
    PrimaryContainer: { Image: image, ModelDataUrl: url, Environment: { GREETING: "ahoy" } },
  });
const config = (configName) =>
  new CreateEndpointConfigCommand({
    EndpointConfigName: configName,
    ProductionVariants: [
      variant({ InitialVariantWeight: 2, EnableSSMAccess: false }),
      variant({ VariantName: "small", InitialVariantWeight: 0.5 }),
    ],
    EnableNetworkIsolation: false,
    Tags: [{ Key: "team", Value: "cellar" }],
  });

const groups = {
  "data-capture": {
    DataCaptureConfig: {
      EnableCapture: true,
      InitialSamplingPercentage: 50,
      DestinationS3Uri: `${bucket}/captured`,
      CaptureOptions: [{ CaptureMode: "Input" }, { CaptureMode: "Output" }],
      CaptureContentTypeHeader: { CsvContentTypes: ["text/csv"], JsonContentTypes: ["application/json"] },
    },
  },
  "kms-key": { KmsKeyId: "1234abcd-12ab-34cd-56ef-1234567890ab" },
  async: {
    AsyncInferenceConfig: {
      ClientConfig: { MaxConcurrentInvocationsPerInstance: 4 },
      OutputConfig: {
        S3OutputPath: `${bucket}/answers`,
        S3FailurePath: `${bucket}/failures`,
        NotificationConfig: {
          SuccessTopic: "arn:aws:sns:us-east-1:000000000000:success",
          ErrorTopic: "arn:aws:sns:us-east-1:000000000000:error",
          IncludeInferenceResponseIn: ["SUCCESS_NOTIFICATION_TOPIC"],
        },
      },
    },
  },
  explainer: {
    ExplainerConfig: {
      ClarifyExplainerConfig: {
        EnableExplanations: "`true`",
        InferenceConfig: { MaxRecordCount: 10, FeatureHeaders: ["alcohol", "ash"] },
        ShapConfig: { ShapBaselineConfig: { MimeType: "text/csv", ShapBaseline: "1,2" }, NumberOfSamples: 20 },
      },
    },
  },
  role: { ExecutionRoleArn: role },
  vpc: { VpcConfig: { SecurityGroupIds: ["sg-12345678"], Subnets: ["subnet-12345678"] } },
  isolation: { EnableNetworkIsolation: true },
  metrics: { MetricsConfig: { EnableEnhancedMetrics: true, MetricPublishFrequencyInSeconds: 60 } },
  shadow: {
    ShadowProductionVariants: [variant({ VariantName: "shadow", InitialVariantWeight: 0.5 })],
  },
  serverless: {
    ProductionVariants: [
      {
        VariantName: "big",
        ModelName: name,
        ServerlessConfig: { MemorySizeInMB: 2048, MaxConcurrency: 5, ProvisionedConcurrency: 1 },
      },
    ],
  },
  "core-dump": {
    ProductionVariants: [variant({ CoreDumpConfig: { DestinationS3Uri: `${bucket}/cores` } })],
  },
  volume: { ProductionVariants: [variant({ VolumeSizeInGB: 16 })] },
  "download-timeout": { ProductionVariants: [variant({ ModelDataDownloadTimeoutInSeconds: 600 })] },
  "startup-timeout": { ProductionVariants: [variant({ ContainerStartupHealthCheckTimeoutInSeconds: 600 })] },
  routing: { ProductionVariants: [variant({ RoutingConfig: { RoutingStrategy: "LEAST_OUTSTANDING_REQUESTS" } })] },
  "shell-access": { ProductionVariants: [variant({ EnableSSMAccess: true })] },
};

async function models() {
  tell("create-model", { arn: (await send(model())).ModelArn });
  const described = await send(new DescribeModelCommand({ ModelName: name }));
  tell("describe-model", {
    name: described.ModelName,
    arn: described.ModelArn,
    role: described.ExecutionRoleArn,
    image: described.PrimaryContainer.Image,
    url: described.PrimaryContainer.ModelDataUrl,
    environment: described.PrimaryContainer.Environment,
    created: seconds(described.CreationTime),
  });
}

async function configs() {
  for (const each of [name, `${name}-2`, `${name}-3`]) {
    tell("create-config", { arn: (await send(config(each))).EndpointConfigArn });
  }
  const described = await send(new DescribeEndpointConfigCommand({ EndpointConfigName: name }));
  tell("describe-config", {
    name: described.EndpointConfigName,
    arn: described.EndpointConfigArn,
    created: seconds(described.CreationTime),
    variants: described.ProductionVariants.map((each) => ({
      name: each.VariantName,
      model: each.ModelName,
      count: each.InitialInstanceCount,
      type: each.InstanceType,
      weight: each.InitialVariantWeight,
    })),
  });
  const query = { NameContains: name, SortBy: "Name", SortOrder: "Ascending" };
  const pages = [];
  for await (const page of paginateListEndpointConfigs({ client: sagemaker, pageSize: 2 }, query)) {
    pages.push(page.EndpointConfigs.map((each) => each.EndpointConfigName));
  }
  tell("list-configs", { pages });
  for (const [group, members] of Object.entries(groups)) {
    const request = { EndpointConfigName: `${name}-${group}`, ProductionVariants: [variant()], ...members };
    await refused("group", { group }, () => send(new CreateEndpointConfigCommand(request)));
  }
}

async function tags(arn) {
  const listed = async () =>
    Object.fromEntries((await send(new ListTagsCommand({ ResourceArn: arn }))).Tags.map((tag) => [tag.Key, tag.Value]));
  await send(new AddTagsCommand({ ResourceArn: arn, Tags: [{ Key: "year", Value: "1987" }] }));
  tell("add-tags", { tags: await listed() });
  await send(new DeleteTagsCommand({ ResourceArn: arn, TagKeys: ["team"] }));
  tell("delete-tags", { tags: await listed() });
}

const describe = () => send(new DescribeEndpointCommand({ EndpointName: name }));
const patience = { client: sagemaker, maxWaitTime: 90, minDelay: 1, maxDelay: 1 };

async function tellEndpoint(step) {
  const described = await describe();
  tell(step, {
    status: described.EndpointStatus,
    config: described.EndpointConfigName,
    created: seconds(described.CreationTime),
    modified: seconds(described.LastModifiedTime),
    variants: described.ProductionVariants.map((each) => ({
      name: each.VariantName,
      weights: [each.CurrentWeight, each.DesiredWeight],
      counts: [each.CurrentInstanceCount, each.DesiredInstanceCount],
      image: each.DeployedImages[0].SpecifiedImage,
      resolved: each.DeployedImages[0].ResolvedImage,
    })),
  });
}

async function endpoint() {
  const created = await send(new CreateEndpointCommand({ EndpointName: name, EndpointConfigName: name }));
  tell("create-endpoint", { arn: created.EndpointArn });
  tell("describe-new", { status: (await describe()).EndpointStatus });
  tell("wait-in-service", { state: (await waitUntilEndpointInService(patience, { EndpointName: name })).state });
  await tellEndpoint("describe-endpoint");
  const names = [];
  for await (const page of paginateListEndpoints({ client: sagemaker, pageSize: 1 }, { NameContains: name })) {
    names.push(...page.Endpoints.map((each) => `${each.EndpointName} ${each.EndpointStatus}`));
  }
  tell("list-endpoints", { names });
}

const request = {
  EndpointName: name,
  ContentType: "text/csv",
  Accept: "application/json",
  TargetVariant: "small",
  Body: rows,
};
const invocation = (more = {}) => new InvokeEndpointCommand({ ...request, ...more });

async function invoke() {
  const answer = await runtime.send(invocation());
  tell("invoke", {
    variant: answer.InvokedProductionVariant,
    type: answer.ContentType,
    body: new TextDecoder().decode(answer.Body),
  });
}

async function stream() {
  const answer = await runtime.send(new InvokeEndpointWithResponseStreamCommand(request));
  const decoder = new TextDecoder();
  let body = "";
  for await (const event of answer.Body) {
    body += decoder.decode(event.PayloadPart.Bytes, { stream: true });
  }
  tell("stream", { variant: answer.InvokedProductionVariant, type: answer.ContentType, body });
}

async function errors() {
  const missing = { ModelName: `${name}-missing` };
  await refused("error", { case: "missing-model" }, () => send(new DescribeModelCommand(missing)));
  await refused("error", { case: "existing-model" }, () => send(model()));
  await refused("error", { case: "existing-config" }, () => send(config(name)));
  await refused("error", { case: "constraints" }, () =>
    send(
      new CreateEndpointConfigCommand({
        EndpointConfigName: "bad_name",
        ProductionVariants: [variant({ InstanceType: "ml.nonsense", InitialVariantWeight: -1 })],
      }),
    ),
  );
  await refused("error", { case: "missing-endpoint" }, () =>
    runtime.send(invocation({ EndpointName: `${name}-missing` })),
  );
  try {
    await runtime.send(invocation({ ContentType: "application/x-nonsense" }));
  } catch (fault) {
    const { name: code, message, OriginalStatusCode, OriginalMessage, LogStreamArn } = fault;
    const status = fault.$metadata.httpStatusCode;
    tell("model-error", { code, message, status, original: OriginalStatusCode, text: OriginalMessage, log: LogStreamArn });
  }
  // The first two answers to this request are lost on the way: the SDK sends it again, twice.
  await refused("lost", {}, () => send(config(`${name}-lost`)));
  const kept = await send(new DescribeEndpointConfigCommand({ EndpointConfigName: `${name}-lost` }));
  tell("kept", { arn: kept.EndpointConfigArn });
}

async function change() {
  const changed = await send(
    new UpdateEndpointWeightsAndCapacitiesCommand({
      EndpointName: name,
      DesiredWeightsAndCapacities: [
        { VariantName: "big", DesiredWeight: 1, DesiredInstanceCount: 2 },
        { VariantName: "small", DesiredWeight: 3.5 },
      ],
    }),
  );
  tell("update-weights", { arn: changed.EndpointArn });
  await waitUntilEndpointInService(patience, { EndpointName: name });
  await tellEndpoint("describe-changed");
  const updated = await send(new UpdateEndpointCommand({ EndpointName: name, EndpointConfigName: `${name}-2` }));
  tell("update-endpoint", { arn: updated.EndpointArn });
  await waitUntilEndpointInService(patience, { EndpointName: name });
  await tellEndpoint("describe-updated");
}

async function end() {
  await send(new DeleteEndpointCommand({ EndpointName: name }));
  tell("wait-deleted", { state: (await waitUntilEndpointDeleted(patience, { EndpointName: name })).state });
  for (const each of [name, `${name}-2`, `${name}-3`, `${name}-lost`]) {
    await send(new DeleteEndpointConfigCommand({ EndpointConfigName: each }));
  }
  await send(new DeleteModelCommand({ ModelName: name }));
  await refused("gone", { kind: "endpoint" }, describe);
  await refused("gone", { kind: "config" }, () =>
    send(new DescribeEndpointConfigCommand({ EndpointConfigName: name })),
  );
  await refused("gone", { kind: "model" }, () => send(new DescribeModelCommand({ ModelName: name })));
}

await models();
await configs();
await tags((await send(new DescribeEndpointConfigCommand({ EndpointConfigName: name }))).EndpointConfigArn);
await endpoint();
await invoke();
await stream();
await errors();
await change();
await end();
